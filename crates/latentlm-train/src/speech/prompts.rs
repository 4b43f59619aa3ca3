//! Utterances behind a voice prompt that is cut in the middle of a word. A user's recording is often cut so:
//! the model has to learn that such a prompt has ended, and where the speech behind it ends.

use std::collections::BTreeMap;

use latentlm::RandomStream;
use latentlm::sequence::ControlTokens;
use latentlm_data::{DataError, TextTokenizer};
use latentlm_pipelines::{SpeechData, SpeechRecipe};

use super::said::Spoken;
use crate::latent_cache::LatentCache;

/// Most seconds that a recording loses whose words have no known places.
const TAIL_SECONDS: f64 = 0.3;

/// Makes prompts out of other utterances.
pub(super) struct Prompts<'a> {
    pub(super) data: &'a SpeechData,
    pub(super) recipe: &'a SpeechRecipe,
    pub(super) tokenizer: &'a TextTokenizer,
    /// Samples of a latent.
    pub(super) hop: usize,
}

impl Prompts<'_> {
    /// Puts another, cut utterance of the same speaker before a share `text.cut_prompts` of the utterances. Those
    /// that would no longer fit into a pack, or whose speaker has no other, stay as they are.
    ///
    /// # Errors
    /// If a text can't be encoded.
    pub(super) fn put_before(
        &self,
        cache: LatentCache,
        spoken: Vec<Spoken>,
    ) -> Result<(LatentCache, Vec<Spoken>), DataError> {
        let share = self.recipe.text.cut_prompts;
        if share == 0.0 {
            return Ok((cache, spoken));
        }
        let speakers: Vec<String> = cache.labels.iter().map(|&own| self.speaker(own)).collect();
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
        for (place, mut own) in spoken.into_iter().enumerate() {
            let frames = own.frames;
            let mut random = RandomStream::for_step(self.recipe.seed, "cut-prompts", place as u64);
            let of_speaker = &by_speaker[speakers[place].as_str()];
            if random.chance(share)
                && let Some(other) = another(of_speaker, place, &mut random)
            {
                let length = cache.lengths[other] as usize;
                let cut = self.cut(cache.labels[other] as usize, length, &mut random)?;
                if let Some((cut, both)) = cut.and_then(|cut| self.with(cut, &own)) {
                    parameters.extend_from_slice(rows(other, cut));
                    own = both;
                }
            }
            parameters.extend_from_slice(rows(place, frames));
            lengths.push(own.frames as u32);
            joined.push(own);
        }
        let cache = LatentCache {
            dim: cache.dim,
            lengths,
            labels: cache.labels.clone(),
            parameters,
            fingerprint: cache.fingerprint.clone(),
        };
        Ok((cache, joined))
    }

    fn speaker(&self, label: u32) -> String {
        self.data.speaker(label as usize)
    }

    /// The prompt's latents and both utterances together; `None` if they do not fit into a pack.
    fn with(&self, prompt: Spoken, own: &Spoken) -> Option<(usize, Spoken)> {
        let silence = ControlTokens::after(self.tokenizer.vocabulary()).more;
        let frames = prompt.frames;
        let both = prompt.then(own.clone(), silence);
        let length = self.recipe.length_in_pack(&both.clone().document());
        (length <= self.recipe.data.pack_positions).then_some((frames, both))
    }

    /// An utterance of `frames` latents up to the middle of one of its words, with the text up to that word.
    /// Where the places of words are not known, its end is cut off, which falls into the last word. `None` if
    /// it is too short.
    fn cut(
        &self,
        index: usize,
        frames: usize,
        random: &mut RandomStream,
    ) -> Result<Option<Spoken>, DataError> {
        let (text, words) = self.data.text(index);
        let (hop, tokenizer) = (self.hop, self.tokenizer);
        let words = words.unwrap_or_default();
        if words.is_empty() {
            let rate = f64::from(self.recipe.codec.sample_rate_hz);
            let tail = (TAIL_SECONDS * rate / hop as f64) as usize;
            let most = tail.min(frames / 2);
            if most == 0 {
                return Ok(None);
            }
            let kept = frames - 1 - random.below(most);
            return Spoken::of(&text, None, kept, hop, tokenizer).map(Some);
        }
        let last = random.below(words.len());
        let start = match last {
            0 => 0,
            _ => words[last - 1].end.div_ceil(hop),
        };
        let end = words[last].end.div_ceil(hop);
        let Some(kept) = within(start, end, frames, random) else {
            return Ok(None);
        };
        let words = &words[..=last];
        let text: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        let known = Some(words).filter(|_| self.recipe.text.aligned);
        Spoken::of(&text.join(" "), known, kept, hop, tokenizer).map(Some)
    }
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

    /// Utterances of the shipped voice; all, half or none of them get a prompt.
    #[test]
    fn utterances_stand_behind_cut_ones_with_their_latents() {
        let voice = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/voice");
        let changes = [format!("data.path={voice}"), "data.composed=40".to_owned()];
        let mut recipe = SpeechRecipe::resolve(None, &changes).unwrap();
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
        let mut behind = |share: f64| {
            recipe.text.cut_prompts = share;
            let prompts = Prompts {
                data: &data,
                recipe: &recipe,
                tokenizer: &tokenizer,
                hop,
            };
            prompts.put_before(cache.clone(), spoken.clone()).unwrap()
        };
        assert_eq!(behind(0.0), (cache.clone(), spoken.clone()));
        let count = |joined: &[Spoken]| {
            let pairs = joined.iter().zip(&spoken);
            pairs
                .filter(|(joined, own)| joined.frames > own.frames)
                .count()
        };
        let (half, all) = (behind(0.5), behind(1.0));
        // Five standard deviations of 40 draws are 16.
        assert!(count(&half.1).abs_diff(20) < 16, "{}", count(&half.1));
        assert_eq!(count(&all.1), 40);
        let (joined, utterances) = all;
        assert_eq!(
            joined.parameters.len(),
            utterances.iter().map(|own| own.frames).sum::<usize>()
        );
        let starts = starts(&joined);
        for (place, (both, own)) in utterances.iter().zip(&spoken).enumerate() {
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
        }
    }
}
