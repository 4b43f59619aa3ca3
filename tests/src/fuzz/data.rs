//! Readers of data: pictures, clips, recordings, tables, texts, vocabularies, the latent cache.

use std::path::Path;

use latentlm_compose::Scene;
use latentlm_data::speech::{
    SpeechDataset, SpeechSpec, check_speech, read_audio, read_sentences, wav_bytes,
};
use latentlm_data::{
    Caption, ClipDataset, ClipSpec, ImageDataset, ImageSpec, PlainText, ReadOptions, Split,
    TextTokenizer, TokenizerKind, check, check_clips, normal_text, read_picture,
};
use latentlm_pipelines::{Inventory, KnownText};
use latentlm_train::LatentCache;

use super::{Reader, Verdict, put, seeds, told};

const PICTURE: ImageSpec = ImageSpec {
    channels: 3,
    height: 16,
    width: 16,
};
const CLIP: ClipSpec = ClipSpec {
    frames: 2,
    rate_hz: 10.0,
    picture: PICTURE,
};
const SPEECH: SpeechSpec = SpeechSpec {
    sample_rate_hz: seeds::RATE_HZ,
    loudness_dbfs: Some(-23.0),
    trim_silence: true,
    min_seconds: 0.0,
    max_seconds: 100.0,
};
/// Samples of a dataset that are decoded.
const DECODED: usize = 4;

pub(super) fn picture(scratch: &Path) -> Reader {
    let path = scratch.join("picture");
    Box::new(move |bytes| {
        put(&path, bytes);
        told(read_picture(&path, PICTURE)).map(drop)
    })
}

/// A file of any format among clips of two.
pub(super) fn clip(scratch: &Path) -> Reader {
    put(&scratch.join("whole.y4m"), &seeds::y4m());
    clips_with(scratch, "input.gif")
}

/// A folder of three frames, with the input as the second.
pub(super) fn clip_frames(scratch: &Path) -> Reader {
    put(&scratch.join("whole.y4m"), &seeds::y4m());
    for index in [1, 3] {
        put(
            &scratch.join(format!("walk/{index}.png")),
            &seeds::png(8, 6),
        );
    }
    clips_with(scratch, "walk/2.png")
}

/// Clips, with the input as their table.
pub(super) fn clip_table(scratch: &Path) -> Reader {
    for name in ["0.y4m", "1.y4m", "2.y4m"] {
        put(&scratch.join(name), &seeds::y4m());
    }
    for index in [1, 2] {
        put(
            &scratch.join(format!("walk/{index}.png")),
            &seeds::png(8, 6),
        );
    }
    clips_with(scratch, "metadata.jsonl")
}

/// A folder of clips in which the input is the file `name`.
fn clips_with(scratch: &Path, name: &str) -> Reader {
    let (folder, path) = (scratch.to_owned(), scratch.join(name));
    // A few bytes can be a thousand frames of a large picture.
    let options = ReadOptions {
        max_broken: 1.0,
        max_picture_mb: 1,
        ..ReadOptions::default()
    };
    Box::new(move |bytes| {
        put(&path, bytes);
        let report = told(check_clips(&folder, CLIP, &options))?;
        let _ = report.to_string();
        for set in told(ClipDataset::open_both(&folder, CLIP, options))? {
            set.fingerprint();
            set.samples();
            for index in 0..set.len().min(DECODED) {
                let clip = told(set.get(index))?;
                assert_eq!(clip.frames.len(), CLIP.bytes(), "pixels are lost");
            }
        }
        Ok(())
    })
}

/// A caption of composed clips.
pub(super) fn scene(_: &Path) -> Reader {
    Box::new(move |bytes| {
        let text = told(std::str::from_utf8(bytes))?;
        let scene = Scene::parse(text).ok_or("no caption")?;
        assert_eq!(Scene::parse(&scene.caption()), Some(scene), "another one");
        Ok(())
    })
}

/// IDX files, of which the input is one.
pub(super) fn idx(scratch: &Path, name: &str) -> Reader {
    let (images, labels) = (seeds::idx_images(), seeds::idx_labels());
    for prefix in ["train", "t10k"] {
        put(
            &scratch.join(format!("{prefix}-images-idx3-ubyte")),
            &images,
        );
        put(
            &scratch.join(format!("{prefix}-labels-idx1-ubyte")),
            &labels,
        );
    }
    pictures_with(scratch, name)
}

/// Pictures and a sheet, with the input as their table.
pub(super) fn picture_table(scratch: &Path, name: &str) -> Reader {
    for index in 0..DECODED {
        put(&scratch.join(format!("{index}.png")), &seeds::png(8, 6));
    }
    put(&scratch.join("sheet.png"), &seeds::png(68, 68));
    pictures_with(scratch, name)
}

/// A folder of pictures in which the input is the file `name`.
fn pictures_with(scratch: &Path, name: &str) -> Reader {
    let (folder, path) = (scratch.to_owned(), scratch.join(name));
    Box::new(move |bytes| {
        put(&path, bytes);
        pictures(&folder)
    })
}

/// Checks a folder as `data check` does, opens it as training does, and decodes some of its pictures.
fn pictures(folder: &Path) -> Verdict {
    let report = told(check(folder))?;
    let _ = report.to_string();
    // Broken records are left out, so that the others are read as well.
    let options = ReadOptions {
        max_broken: 1.0,
        ..ReadOptions::default()
    };
    let both = told(ImageDataset::open_both(folder, PICTURE, options))?;
    for (set, split) in both.into_iter().zip(Split::ALL) {
        let set = told(set.filled(folder, split))?;
        set.fingerprint();
        for index in 0..set.len().min(DECODED) {
            told(set.get(index))?;
        }
        for caption in Caption::all(&set) {
            let (said, asked) = (caption.said(), caption.asked());
            Caption::category_of(&said);
            KnownText::of(&asked).unheard([said]);
        }
    }
    Ok(())
}

/// A recording of a corpus of two.
pub(super) fn sound(scratch: &Path) -> Reader {
    let table = r#"{"audio": "a.wav", "text": "one two"}
        {"audio": "b.wav", "text": "three"}"#;
    put(&scratch.join("metadata.jsonl"), table.as_bytes());
    put(&scratch.join("b.wav"), &seeds::wav());
    let (folder, path) = (scratch.to_owned(), scratch.join("a.wav"));
    Box::new(move |bytes| {
        put(&path, bytes);
        let report = told(check_speech(&folder))?;
        let _ = report.to_string();
        told(read_audio(&path))?;
        corpus(&folder)
    })
}

/// The transcript of one of four recordings, where each has a file of its own: LibriTTS's.
pub(super) const LIBRITTS: &str = "1/2/1_2_0.normalized.txt";
/// The same of VCTK.
pub(super) const VCTK: &str = "txt/p1/p1_0.txt";

/// Recordings as LJSpeech, LibriSpeech, LibriTTS, VCTK and Multilingual LibriSpeech have them, with the input as their table
/// or as one of their transcripts.
pub(super) fn speech_table(scratch: &Path, name: &str) -> Reader {
    let sound = wav_bytes(&seeds::tone(800), seeds::RATE_HZ);
    for index in 0..4 {
        let beside = match name {
            "transcripts.txt" => format!("audio/7/9/7_9_{index}.flac"),
            "1/2/1-2.trans.txt" => format!("1/2/1-2-000{index}.flac"),
            LIBRITTS => format!("1/2/1_2_{index}.wav"),
            VCTK => format!("wav48/p1/p1_{index}.wav"),
            _ => format!("wavs/u{index}.wav"),
        };
        put(&scratch.join(beside), &sound);
        if [LIBRITTS, VCTK].contains(&name) {
            let transcript = name.replace("_0.", &format!("_{index}."));
            put(&scratch.join(transcript), b"some words\n");
        }
    }
    let (folder, path) = (scratch.to_owned(), scratch.join(name));
    Box::new(move |bytes| {
        put(&path, bytes);
        let report = told(check_speech(&folder))?;
        let _ = report.to_string();
        corpus(&folder)
    })
}

/// The list of what a run is trained on.
pub(super) fn data_list(scratch: &Path) -> Reader {
    let path = scratch.join("data.txt");
    Box::new(move |bytes| {
        put(&path, bytes);
        let list = told(Inventory::read(&path))?;
        assert!(list.changes_since(&list).is_empty(), "changed by itself");
        Ok(())
    })
}

/// Opens both splits of a corpus and decodes some of its recordings.
fn corpus(folder: &Path) -> Verdict {
    SpeechDataset::is_speech(folder);
    for split in Split::ALL {
        let set = told(SpeechDataset::open(folder, SPEECH, split))?;
        set.fingerprint();
        for index in 0..set.len().min(DECODED) {
            told(set.get(index))?;
        }
    }
    Ok(())
}

pub(super) fn text(scratch: &Path) -> Reader {
    let path = scratch.join("text.txt");
    Box::new(move |bytes| {
        put(&path, bytes);
        let [train, test] = Split::ALL.map(|split| told(PlainText::open(&path, split)));
        let (train, test) = (train?, test?);
        for kind in [TokenizerKind::Characters, TokenizerKind::ByteLevelBpe] {
            let tokenizer = told(TextTokenizer::train(kind, train.paragraphs(), 300))?;
            for paragraph in train.paragraphs().iter().chain(test.paragraphs()) {
                // Characters that training never had are refused.
                if let Ok(tokens) = tokenizer.encode(paragraph) {
                    told(tokenizer.decode(&tokens))?;
                }
            }
        }
        let known = KnownText::of(train.paragraphs());
        let _ = known.unheard(test.paragraphs()).to_string();
        Ok(())
    })
}

pub(super) fn sentences(scratch: &Path) -> Reader {
    let path = scratch.join("sentences.txt");
    Box::new(move |bytes| {
        put(&path, bytes);
        for sentence in told(read_sentences(&path))? {
            assert_eq!(normal_text(&sentence), sentence, "normal twice");
        }
        Ok(())
    })
}

pub(super) fn tokenizer(_: &Path) -> Reader {
    Box::new(move |bytes| {
        let tokenizer = TextTokenizer::from_bytes(bytes, Path::new("tokenizer.json"));
        let tokenizer = told(tokenizer)?;
        for text in [
            "three five nine",
            "Gr\u{f6}\u{df}e 7",
            "a\u{301}  b\r\n",
            "xyz",
        ] {
            // A vocabulary need not have these words.
            if let Ok(tokens) = tokenizer.encode(text) {
                assert!(!tokens.is_empty(), "no tokens and no error");
                let _ = tokenizer.decode(&tokens);
            }
        }
        let last = tokenizer.vocabulary().saturating_sub(1) as u32;
        let _ = tokenizer.decode(&[0, 1, 2, last, u32::MAX]);
        told(tokenizer.to_json()).map(drop)
    })
}

pub(super) fn known_text(_: &Path) -> Reader {
    Box::new(move |bytes| {
        let text = told(std::str::from_utf8(bytes))?;
        let known = told(KnownText::from_json(text))?;
        let _ = known.unheard(["three five\u{7}nine"]).to_string();
        Ok(())
    })
}

pub(super) fn latents(scratch: &Path) -> Reader {
    let path = scratch.join("latents.safetensors");
    Box::new(move |bytes| {
        put(&path, bytes);
        let cache = told(LatentCache::read(&path))?;
        let all: Vec<usize> = (0..cache.len()).collect();
        let values = cache.gather(&all);
        assert_eq!(values.len(), cache.parameters.len(), "latents are lost");
        Ok(())
    })
}
