//! Utterances behind voice prompts: other utterances of the speaker, whole or cut in the middle of a word as a user's
//! recording often is, or their own beginning. The model has to learn where such a prompt has ended, and where the
//! speech behind it ends.

use std::collections::BTreeMap;
use std::ops::Range;

use latentlm::RandomStream;
use latentlm::sequence::ControlTokens;
use latentlm_data::TextTokenizer;
use latentlm_data::speech::SpokenWord;
use latentlm_pipelines::{SpeechData, SpeechRecipe, TextConfig};

use super::said::{Spoken, trained_text};
use crate::latent_cache::LatentCache;

/// Most seconds that a recording loses whose words have no known places.
const TAIL_SECONDS: f64 = 0.3;
/// Utterances that are tried as a whole prompt until one fits into a pack.
const TRIES: usize = 8;

/// Makes prompts out of utterances.
pub(super) struct Prompts<'a> {
    pub(super) data: &'a SpeechData,
    pub(super) recipe: &'a SpeechRecipe,
    pub(super) tokenizer: &'a TextTokenizer,
    /// Samples of a latent.
    pub(super) hop: usize,
}

/// What a prompt is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Another utterance of the speaker, up to the middle of a word.
    Cut,
    /// Another utterance of the speaker.
    Whole,
    /// The beginning of the same utterance, up to the end of a word.
    Beginning,
}

impl Kind {
    /// One of them in the shares of a recipe, or none.
    fn draw(text: &TextConfig, random: &mut RandomStream) -> Option<Self> {
        let (drawn, mut end) = (random.uniform(), 0.0);
        // Cut ones first: runs of older versions have no others.
        let shares = [
            (Self::Cut, text.cut_prompts),
            (Self::Whole, text.whole_prompts),
            (Self::Beginning, text.continuations),
        ];
        shares.into_iter().find_map(|(kind, share)| {
            end += share;
            (drawn < end).then_some(kind)
        })
    }
}

/// An utterance behind a prompt.
struct Prompted {
    /// The utterance whose first latents are put before its own.
    other: usize,
    /// The number of these latents; 0 if the prompt is its own beginning.
    frames: usize,
    /// Prompt and utterance together.
    both: Spoken,
}

impl Prompts<'_> {
    /// Puts prompts before shares of the utterances: `text.cut_prompts`, `text.whole_prompts` and `text.continuations`. Those
    /// that would no longer fit into a pack, whose speaker has no other, or that can't be divided, stay as they are.
    pub(super) fn put_before(
        &self,
        cache: LatentCache,
        spoken: Vec<Spoken>,
    ) -> (LatentCache, Vec<Spoken>) {
        let text = &self.recipe.text;
        if text.cut_prompts + text.whole_prompts + text.continuations == 0.0 {
            return (cache, spoken);
        }
        let speakers = cache.labels.iter();
        let speakers: Vec<String> = speakers
            .map(|&own| self.data.speaker(own as usize))
            .collect();
        let mut by_speaker: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, speaker) in speakers.iter().enumerate() {
            by_speaker.entry(speaker).or_default().push(place);
        }
        let starts = starts(&cache);
        let rows = |place: usize, frames: usize| {
            let start = starts[place];
            &cache.parameters[start..start + frames * cache.dim]
        };
        let (mut lengths, mut parameters) = (Vec::new(), Vec::new());
        let mut joined = Vec::with_capacity(spoken.len());
        for (place, own) in spoken.iter().enumerate() {
            let of_speaker = &by_speaker[speakers[place].as_str()];
            let both = match self.prompted(place, of_speaker, &spoken, &cache.labels) {
                Some(prompted) => {
                    parameters.extend_from_slice(rows(prompted.other, prompted.frames));
                    prompted.both
                }
                None => own.clone(),
            };
            parameters.extend_from_slice(rows(place, own.frames));
            lengths.push(both.frames as u32);
            joined.push(both);
        }
        let cache = LatentCache {
            dim: cache.dim,
            lengths,
            labels: cache.labels.clone(),
            parameters,
            fingerprint: cache.fingerprint.clone(),
        };
        (cache, joined)
    }

    /// The utterance at a place behind a prompt; `None` if it gets none. `of_speaker` holds the places of its speaker's
    /// utterances, `labels` the numbers of all.
    fn prompted(
        &self,
        place: usize,
        of_speaker: &[usize],
        spoken: &[Spoken],
        labels: &[u32],
    ) -> Option<Prompted> {
        let (text, seed) = (&self.recipe.text, self.recipe.seed);
        let mut random = RandomStream::for_step(seed, "cut-prompts", place as u64);
        let kind = Kind::draw(text, &mut random)?;
        let mut untold = RandomStream::for_step(seed, "untold-prompts", place as u64);
        let is_untold = untold.chance(text.prompts_without_words);
        let told = |prompt: Spoken| {
            if is_untold { prompt.untold() } else { prompt }
        };
        let own = &spoken[place];
        match kind {
            Kind::Cut => {
                let other = another(of_speaker, place, &mut random)?;
                let (index, frames) = (labels[other] as usize, spoken[other].frames);
                let cut = self.cut(index, frames, &mut random)?;
                self.behind(other, told(cut), own)
            }
            Kind::Whole => (0..TRIES).find_map(|_| {
                let other = another(of_speaker, place, &mut random)?;
                self.behind(other, told(spoken[other].clone()), own)
            }),
            Kind::Beginning => {
                let (before, rest) = self.divided(labels[place] as usize, own, &mut random)?;
                let prompted = self.behind(place, told(before), &rest)?;
                // Its latents are there already.
                Some(Prompted {
                    frames: 0,
                    ..prompted
                })
            }
        }
    }

    /// An utterance behind the first latents of the one at the place `other`; `None` if both do not fit into a pack.
    fn behind(&self, other: usize, prompt: Spoken, own: &Spoken) -> Option<Prompted> {
        let silence = ControlTokens::after(self.tokenizer.vocabulary()).more;
        let frames = prompt.frames;
        let both = prompt.then(own.clone(), silence);
        let length = self.recipe.length_in_pack(&both.clone().document());
        (length <= self.recipe.data.pack_positions).then_some(Prompted {
            other,
            frames,
            both,
        })
    }

    /// An utterance of `frames` latents up to the middle of one of its words, with the text up to that word.
    /// Where the places of words are not known, its end is cut off, which falls into the last word. `None` if
    /// it is too short, or its text can't be encoded.
    fn cut(&self, index: usize, frames: usize, random: &mut RandomStream) -> Option<Spoken> {
        let (text, words) = self.data.text(index);
        let (hop, tokenizer) = (self.hop, self.tokenizer);
        let words = words.unwrap_or_default();
        if words.is_empty() {
            let rate = f64::from(self.recipe.codec.sample_rate_hz);
            let tail = (TAIL_SECONDS * rate / hop as f64) as usize;
            let most = tail.min(frames / 2);
            if most == 0 {
                return None;
            }
            let kept = frames - 1 - random.below(most);
            return Spoken::of(&text, None, kept, hop, tokenizer).ok();
        }
        let last = random.below(words.len());
        let start = match last {
            0 => 0,
            _ => words[last - 1].end.div_ceil(hop),
        };
        let end = words[last].end.div_ceil(hop);
        let kept = within(start, end, frames, random)?;
        let words = &words[..=last];
        let known = Some(words).filter(|_| self.recipe.text.aligned);
        Spoken::of(&joined(words), known, kept, hop, tokenizer).ok()
    }

    /// An utterance in two parts, divided behind any word but its last. Their texts are encoded each by itself, as those of
    /// a voice and of what is said with it are. `None` if the places of its words are not known, or a part has no latents.
    fn divided(
        &self,
        index: usize,
        own: &Spoken,
        random: &mut RandomStream,
    ) -> Option<(Spoken, Spoken)> {
        let (text, words) = trained_text(self.data, self.recipe, index);
        let words = words.filter(|words| words.len() > 1)?;
        let place = random.below(words.len() - 1);
        let kept = words[place].end.div_ceil(self.hop);
        if kept == 0 || kept >= own.frames {
            return None;
        }
        let (before, behind) = divided_text(&text, &words, place + 1);
        let part = |text: &str, latents: Range<usize>| {
            Some(Spoken {
                tokens: self.tokenizer.encode(text).ok()?,
                frames: latents.len(),
                said: own.said.get(latents).unwrap_or_default().to_vec(),
            })
        };
        Some((part(&before, 0..kept)?, part(&behind, kept..own.frames)?))
    }
}

/// Words between spaces.
fn joined(words: &[SpokenWord]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}

/// A text in two parts: its first `count` words, and what is behind them. Where the words are written otherwise than the
/// text, as without its marks, the other words are the second part.
fn divided_text(text: &str, words: &[SpokenWord], count: usize) -> (String, String) {
    let (before, others) = words.split_at(count);
    let before = joined(before);
    let behind = text.strip_prefix(&before);
    let behind = behind.and_then(|behind| behind.strip_prefix(' '));
    let behind = behind.map_or_else(|| joined(others), str::to_owned);
    (before, behind)
}

/// Where the samples of a cache begin among its parameters.
fn starts(cache: &LatentCache) -> Vec<usize> {
    let mut starts = Vec::with_capacity(cache.len());
    let mut start = 0;
    for &length in &cache.lengths {
        starts.push(start);
        start += length as usize * cache.dim;
    }
    starts
}

/// One of the places in a rising list other than `own`, which is in it; `None` if there is none.
fn another(places: &[usize], own: usize, random: &mut RandomStream) -> Option<usize> {
    if places.len() < 2 {
        return None;
    }
    let drawn = random.below(places.len() - 1);
    // Those from `own` on move up by one.
    Some(places[drawn + usize::from(places[drawn] >= own)])
}

/// How many of `frames` latents remain if a word in `start..end` is cut: at least one of its latents, and not all if
/// it has more. The cut is in the second half, since a pause may come first. `None` if the word begins behind the last
/// latent.
fn within(start: usize, end: usize, frames: usize, random: &mut RandomStream) -> Option<usize> {
    if start >= frames {
        return None;
    }
    let end = end.min(frames);
    let middle = usize::midpoint(start, end);
    let kept = middle + random.below(end.saturating_sub(middle).max(1));
    Some(kept.max(start + 1))
}

#[cfg(test)]
mod tests {
    use latentlm::sequence::UNTOLD;
    use latentlm_pipelines::Recipe;

    use super::*;

    #[test]
    fn a_cut_lies_in_the_second_half_of_the_word() {
        let random = &mut RandomStream::new(1);
        let mut found: Vec<usize> = (0..200)
            .filter_map(|_| within(10, 20, 30, random))
            .collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, [15, 16, 17, 18, 19]);
        for (start, end, expected) in [(3, 4, 4), (3, 5, 4), (0, 1, 1)] {
            let kept = within(start, end, 5, random);
            assert_eq!(kept, Some(expected), "{start} to {end}");
        }
        // Words that end, or begin, behind the last latent.
        for _ in 0..20 {
            assert_eq!(within(4, 9, 5, random), Some(5));
            assert!(within(2, 40, 5, random).unwrap() <= 5);
        }
        assert_eq!(within(5, 6, 5, random), None);
        assert_eq!(within(7, 7, 5, random), None);
    }

    #[test]
    fn a_prompt_is_another_utterance() {
        let random = &mut RandomStream::new(1);
        for own in [2, 5, 9] {
            let mut found: Vec<usize> = (0..100)
                .filter_map(|_| another(&[2, 5, 9], own, random))
                .collect();
            found.sort_unstable();
            found.dedup();
            let mut others = vec![2, 5, 9];
            others.retain(|&place| place != own);
            assert_eq!(found, others);
        }
        assert_eq!(another(&[2], 2, random), None);
    }

    /// Words and marks as `data voices` writes them, and words without marks.
    #[test]
    fn texts_are_divided_as_a_voice_and_what_is_said_with_it() {
        let words = |list: &[&str]| -> Vec<SpokenWord> {
            let words = list.iter().zip(1..);
            let words = words.map(|(text, end)| SpokenWord {
                text: (*text).to_owned(),
                end,
            });
            words.collect()
        };
        for (text, list, count, parts) in [
            (
                "It was late.",
                ["It", "was", "late."],
                2,
                ["It was", "late."],
            ),
            // A text that lost its full stop.
            ("It was late", ["It", "was", "late."], 1, ["It", "was late"]),
            ("It was late.", ["it", "was", "late"], 1, ["it", "was late"]),
            ("Its late, is it?", ["It", "s", "late"], 1, ["It", "s late"]),
        ] {
            let (before, behind) = divided_text(text, &words(&list), count);
            assert_eq!([&before[..], &behind], parts, "{text}");
        }
    }

    #[test]
    fn kinds_of_prompts_have_their_shares() {
        let mut text = SpeechRecipe::default().text;
        (text.cut_prompts, text.whole_prompts) = (0.1, 0.2);
        text.continuations = 0.3;
        let draw = |text: &TextConfig, seed| Kind::draw(text, &mut RandomStream::new(seed));
        let counts = [
            Some(Kind::Cut),
            Some(Kind::Whole),
            Some(Kind::Beginning),
            None,
        ]
        .map(|kind| {
            let drawn = (0..4000).filter(|&seed| draw(&text, seed) == kind);
            drawn.count()
        });
        // Five standard deviations are at most 155.
        for (count, expected) in counts.into_iter().zip([400_usize, 800, 1200, 1600]) {
            assert!(count.abs_diff(expected) < 155, "{counts:?}");
        }
        // Where there is nothing but cut ones, they are the same.
        let mut cut = text.clone();
        (cut.whole_prompts, cut.continuations) = (0.0, 0.0);
        for seed in 0..200 {
            let only = Some(Kind::Cut).filter(|_| draw(&text, seed) == Some(Kind::Cut));
            assert_eq!(draw(&cut, seed), only);
        }
    }

    /// Utterances of the shipped voice.
    struct Voice {
        recipe: SpeechRecipe,
        data: SpeechData,
        tokenizer: TextTokenizer,
        cache: LatentCache,
        spoken: Vec<Spoken>,
    }

    impl Voice {
        /// Forty composed ones. Their latents are numbers: a thousand for each utterance, and one more for each latent.
        fn of_forty() -> Self {
            let voice = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/voice");
            let changes = [format!("data.path={voice}"), "data.composed=40".to_owned()];
            let recipe = SpeechRecipe::resolve(None, &changes).unwrap();
            let data = SpeechData::open(&recipe).unwrap();
            let tokenizer = data.tokenizer(&recipe).unwrap();
            let (first, hop) = (data.train.len(), recipe.codec.hop_samples());
            let mut spoken = Vec::new();
            let mut cache = LatentCache {
                dim: 1,
                ..LatentCache::default()
            };
            for place in 0..40 {
                let (text, words) = data.text(first + place);
                let words = words.unwrap();
                let frames = words[words.len() - 1].end.div_ceil(hop) + 1;
                cache.lengths.push(frames as u32);
                cache.labels.push((first + place) as u32);
                cache
                    .parameters
                    .extend((0..frames).map(|frame| (1000 * place + frame) as f32));
                let own = Spoken::of(&text, Some(&words), frames, hop, &tokenizer).unwrap();
                spoken.push(own);
            }
            Self {
                recipe,
                data,
                tokenizer,
                cache,
                spoken,
            }
        }

        /// What becomes of them with shares of prompts: cut ones, whole ones, continuations, and those without words.
        fn behind(&mut self, shares: [f64; 4]) -> (LatentCache, Vec<Spoken>) {
            let text = &mut self.recipe.text;
            [
                text.cut_prompts,
                text.whole_prompts,
                text.continuations,
                text.prompts_without_words,
            ] = shares;
            let prompts = Prompts {
                data: &self.data,
                recipe: &self.recipe,
                tokenizer: &self.tokenizer,
                hop: self.recipe.codec.hop_samples(),
            };
            prompts.put_before(self.cache.clone(), self.spoken.clone())
        }
    }

    /// All, half or none of them get a prompt.
    #[test]
    fn utterances_stand_behind_cut_ones_with_their_latents() {
        let mut voice = Voice::of_forty();
        let alone = (voice.cache.clone(), voice.spoken.clone());
        assert_eq!(voice.behind([0.0, 0.0, 0.0, 1.0]), alone);
        let (half, all) = (
            voice.behind([0.5, 0.0, 0.0, 0.0]),
            voice.behind([1.0, 0.0, 0.0, 0.0]),
        );
        assert_eq!(
            all,
            voice.behind([1.0, 0.0, 0.0, 0.0]),
            "the same each time"
        );
        let spoken = &voice.spoken;
        let count = |joined: &[Spoken]| {
            let pairs = joined.iter().zip(spoken);
            pairs
                .filter(|(joined, own)| joined.frames > own.frames)
                .count()
        };
        // Five standard deviations of 40 draws are 16.
        assert!(count(&half.1).abs_diff(20) < 16, "{}", count(&half.1));
        assert_eq!(count(&all.1), 40);
        let (joined, utterances) = all;
        assert_eq!(
            joined.parameters.len(),
            utterances.iter().map(|own| own.frames).sum::<usize>()
        );
        let starts = starts(&joined);
        for (place, (both, own)) in utterances.iter().zip(spoken).enumerate() {
            assert_eq!(joined.lengths[place] as usize, both.frames);
            let (cut, from) = (both.frames - own.frames, starts[place]);
            let rows = &joined.parameters[from..from + both.frames];
            // Numbers that follow each other: first the prompt's from its beginning, then its own.
            let prompt = rows[0];
            assert_eq!(prompt % 1000.0, 0.0);
            assert_ne!(prompt, (1000 * place) as f32, "its own prompt");
            assert_eq!(rows[cut - 1], prompt + (cut - 1) as f32);
            assert_eq!(rows[cut], (1000 * place) as f32);
            assert!(both.tokens.ends_with(&own.tokens) && both.tokens.len() > own.tokens.len());
            assert_eq!(both.said.len(), both.frames);
            assert_eq!(both.said[cut..], own.said[..]);
            assert!(!both.said.contains(&UNTOLD));
        }
    }

    /// Whole prompts: text, latents and what is said are those of both, one after the other.
    #[test]
    fn utterances_stand_behind_whole_ones() {
        let mut voice = Voice::of_forty();
        let (joined, utterances) = voice.behind([0.0, 1.0, 0.0, 0.0]);
        let starts = starts(&joined);
        for (place, (both, own)) in utterances.iter().zip(&voice.spoken).enumerate() {
            let first = joined.parameters[starts[place]] as usize;
            assert_eq!(first % 1000, 0);
            let other = first / 1000;
            assert_ne!(other, place);
            let prompt = &voice.spoken[other];
            assert_eq!(both.frames, prompt.frames + own.frames);
            assert_eq!(both.tokens, [&prompt.tokens[..], &own.tokens].concat());
            assert_eq!(both.said, [&prompt.said[..], &own.said].concat());
            let behind = starts[place] + prompt.frames;
            assert_eq!(joined.parameters[behind], (1000 * place) as f32);
        }
        // A pack in which none fits: they stay alone.
        voice.recipe.data.pack_positions = 1;
        let alone = voice.behind([0.0, 1.0, 0.0, 0.0]);
        assert_eq!(alone, (voice.cache, voice.spoken));
    }

    /// Continuations have the latents that they have, and their text in two parts, each encoded by itself as a voice's is.
    #[test]
    fn utterances_continue_their_beginnings() {
        let mut voice = Voice::of_forty();
        let (joined, utterances) = voice.behind([0.0, 0.0, 1.0, 1.0]);
        assert_eq!(joined, voice.cache);
        let (first, hop) = (voice.data.train.len(), voice.recipe.codec.hop_samples());
        let mut divided = 0;
        for (place, (both, own)) in utterances.iter().zip(&voice.spoken).enumerate() {
            assert_eq!(both.frames, own.frames);
            let kept = both.said.iter().take_while(|own| **own == UNTOLD).count();
            assert_eq!(both.said[kept..], own.said[kept..]);
            let (text, words) = voice.data.text(first + place);
            let words = words.unwrap();
            let Some(count) = words.iter().position(|word| word.end.div_ceil(hop) == kept) else {
                assert_eq!((both, kept), (own, 0));
                continue;
            };
            divided += 1;
            let (before, behind) = divided_text(&text, &words, count + 1);
            assert_eq!(format!("{before} {behind}"), text);
            let parts = [before, behind].map(|part| voice.tokenizer.encode(&part).unwrap());
            assert_eq!(both.tokens, parts.concat());
        }
        assert!(divided > 20, "{divided}");
    }

    /// The words of as many prompts as the recipe says are not told; nothing else changes.
    #[test]
    fn words_of_prompts_are_told_or_not() {
        let mut voice = Voice::of_forty();
        let [told, half, untold] =
            [0.0, 0.5, 1.0].map(|share| voice.behind([0.4, 0.6, 0.0, share]));
        let mut count = 0;
        for (place, own) in voice.spoken.iter().enumerate() {
            let prompt = told.1[place].frames - own.frames;
            let without = told.1[place].clone();
            let said = [&vec![UNTOLD; prompt][..], &own.said].concat();
            let without = Spoken { said, ..without };
            assert_eq!(untold.1[place], without);
            let is_untold = half.1[place] == without;
            assert!(is_untold || half.1[place] == told.1[place]);
            count += usize::from(is_untold);
        }
        assert_eq!(untold.0, told.0);
        // Five standard deviations of 40 draws are 16.
        assert!(count.abs_diff(20) < 16, "{count}");
    }
}
