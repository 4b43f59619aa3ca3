//! The models that are compared on documents of text and pictures.

use std::slice;

use burn::tensor::{Device, Tensor};
use latentlm::adapters::LatentAdapter;
use latentlm::codec_image::Codec;
use latentlm::core::DiffusionDraws;
use latentlm::sequence::Document;
use latentlm::{Batch, LatentLm, Loss, Piece, Prompt, RandomStream};
use latentlm_baselines::{MllmTransfusion, MllmVqLm};
use latentlm_data::{Mix, PICTURES};
use latentlm_eval::{Gallery, Sample, by_chance, majority};
use latentlm_pipelines::{ImageData, MllmData, evenly, host_values, read_all};
use latentlm_train::{
    Context, EncodedPictures, Learner, LmPlan, LmRecipe, LmSetup, Result, RunOptions, TrainError,
    mllm_setup,
};

use super::documents::{Documents, beginnings};
use super::recipe::{CompareMllmRecipe, CompareRecipe};
use super::result::Comparison;
use super::rival::{Codes, Entry, Question, Reader, Request, Rival, Run, Subject, numbers};
use super::stage_vq;

/// Pictures that are saved, and how many in a row.
const SHOWN: usize = 24;
const COLUMNS: usize = 8;

impl LmRecipe for CompareMllmRecipe {
    fn lm(&self) -> LmPlan<'_> {
        self.mllm.lm()
    }
}

impl Subject for Documents {
    type Recipe = CompareMllmRecipe;
    type Asked = Vec<u32>;
    const WITHIN: &'static str = "mllm.";
    const DROPPED: &'static str = "dropped";
    const BATCH: usize = 64;
    const BATCH_KEY: &'static str = "mllm.lm_train.batch_size";

    fn models() -> Vec<Entry<Self>> {
        vec![
            Entry::of::<LatentLm>(),
            Entry::of::<MllmTransfusion>(),
            Entry::of::<MllmVqLm>(),
        ]
    }

    fn images(recipe: &CompareMllmRecipe) -> CompareRecipe {
        recipe.images()
    }

    fn open(recipe: &CompareMllmRecipe, device: &Device) -> Result<Self> {
        let (count, recipe) = (recipe.evaluate.samples, &recipe.mllm);
        let data = MllmData::open(recipe)?;
        let tokenizer = data.tokenizer(recipe)?;
        let sample = Sample::of(&data.test, count, device)?;
        let mut asked = Vec::new();
        for text in sample.texts() {
            asked.push(tokenizer.encode(&text)?);
        }
        Ok(Self {
            vocabulary: tokenizer.vocabulary(),
            corpus: data.train.documents(recipe, &tokenizer, recipe.mix.kinds)?,
            held_out: data.test.documents(recipe, &tokenizer, Mix::ONCE)?,
            beginnings: beginnings(&data.train.captions, &tokenizer)?,
            data,
            sample,
            asked,
        })
    }

    fn pictures(&self) -> &ImageData {
        &self.data.pictures
    }

    fn size(&self) -> usize {
        self.vocabulary
    }

    /// Pictures of held-out captions.
    fn question(&self, _: &CompareMllmRecipe) -> Question<Vec<u32>> {
        let shown = evenly(SHOWN, self.asked.len());
        Question {
            columns: shown.len().min(COLUMNS),
            labels: self.sample.labels.clone(),
            asked: self.asked.clone(),
            shown,
        }
    }

    fn setup(&self, recipe: &CompareMllmRecipe, _: &EncodedPictures) -> LmSetup {
        mllm_setup(self.corpus.clone(), &recipe.mllm)
    }

    fn codes(context: &mut Run<Self>, options: RunOptions) -> Result<Option<Codes>> {
        let images = context.recipe.images();
        let opened = Context::open(images, options, |images| {
            Ok(ImageData::open(&images.image)?)
        });
        let mut context = match opened {
            Err(TrainError::Stopped) => return Ok(None),
            opened => opened?,
        };
        context.report = Some(stage_vq::report);
        stage_vq::encode(&mut context)
    }

    fn gallery(&self, codec: &Codec, device: &Device) -> Result<Option<Gallery>> {
        Ok(Some(Gallery::open(codec, &self.data, device)?))
    }

    fn measure<M: Rival<Self>>(
        &self,
        reader: &Reader<'_, M>,
        drawn: &Tensor<4>,
    ) -> Result<Vec<(&'static str, Option<f64>)>> {
        let test = &self.data.pictures.test;
        let pictures = read_all(test, reader.device)?;
        let near = reader.gallery.and_then(|gallery| {
            gallery.of_category(&gallery.nearest(drawn.clone()), &self.sample.captions)
        });
        Ok(vec![
            ("text_perplexity", reader.perplexity(self, None)),
            (
                "caption_perplexity",
                reader.perplexity(self, Some(&pictures)),
            ),
            ("category_named", reader.category_named(self)),
            ("neighbours_of_category", near),
        ])
    }

    fn has_pictures(recipe: &CompareMllmRecipe) -> bool {
        let kinds = &recipe.mllm.mix.kinds;
        kinds.draw + kinds.caption > 0
    }

    fn samples(&self, _: &CompareMllmRecipe) -> usize {
        self.asked.len()
    }

    fn complete(&self, comparison: &mut Comparison) {
        let (asked, train) = (&self.sample.captions, &self.data.train.captions);
        let all = [&train[..], &self.data.test.captions[..]].concat();
        comparison.category_named_by_majority = majority(train, asked);
        comparison.neighbours_of_category_by_chance = by_chance(&all, asked);
    }
}

impl Rival<Documents> for LatentLm {
    const NAME: &'static str = "latentlm";
    const SAMPLE_KEYS: &'static [&'static str] = &["mllm.codec.*", "mllm.lm.batch_mul"];

    fn noises(recipe: &CompareMllmRecipe) -> usize {
        recipe.mllm.lm.batch_mul
    }

    fn init(recipe: &CompareMllmRecipe, vocabulary: usize, device: &Device) -> Self {
        recipe.mllm.model(vocabulary).init(device)
    }

    fn draw(&self, request: Request<'_, Documents>) -> Tensor<3> {
        let prompts = request.asked.iter().map(|text| Prompt {
            pieces: vec![Piece::Text(text.clone())],
            open: Some(PICTURES),
            seed: request.random.seed(),
            ..Prompt::default()
        });
        let prompts: Vec<Prompt> = prompts.collect();
        self.draw_prompts(&prompts, &request.recipe.mllm.sample_options())
    }

    fn surprise(&self, documents: &[Document], pictures: Tensor<2>) -> Option<Tensor<1>> {
        let layout = self.layout(documents);
        let hidden = self.hidden(&layout, &[pictures]);
        Some(LatentLm::surprise(self, &layout, hidden))
    }
}

/// Pictures as Transfusion reads them, `[I, T * Z]`.
fn rows(model: &MllmTransfusion, latents: Tensor<2>) -> Tensor<2> {
    let ([count, dim], tokens) = (latents.dims(), model.image.tokens);
    latents.reshape([count / tokens, tokens * dim])
}

impl Learner<CompareMllmRecipe> for MllmTransfusion {
    fn adapters(&self) -> &[LatentAdapter] {
        slice::from_ref(&self.image.latent)
    }

    fn adapters_mut(&mut self) -> &mut [LatentAdapter] {
        slice::from_mut(&mut self.image.latent)
    }

    fn draws(
        &self,
        _: &CompareMllmRecipe,
        learned: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<DiffusionDraws> {
        let pictures = learned[PICTURES] / self.image.tokens;
        vec![self.image.draw(pictures.max(1), random, device)]
    }

    fn loss(&self, mut batch: Batch) -> Loss {
        let pictures = rows(self, batch.latents.remove(PICTURES));
        let draws = batch.draws.remove(PICTURES);
        MllmTransfusion::loss(self, &batch.documents, pictures, draws, &batch.weights)
    }
}

impl Rival<Documents> for MllmTransfusion {
    const NAME: &'static str = "transfusion";
    const SAMPLE_KEYS: &'static [&'static str] = &["mllm.codec.*"];

    fn noises(_: &CompareMllmRecipe) -> usize {
        1
    }

    fn init(recipe: &CompareMllmRecipe, vocabulary: usize, device: &Device) -> Self {
        let image = recipe.mllm.image();
        let config = recipe.transfusion.config(&image, vocabulary);
        config.init_mllm(recipe.mllm.text.tied, device)
    }

    fn draw(&self, request: Request<'_, Documents>) -> Tensor<3> {
        let recipe = request.recipe;
        let options = recipe.transfusion.sample_options(&recipe.mllm.image());
        self.generate(request.asked, &options, request.random, request.device)
    }

    fn surprise(&self, documents: &[Document], pictures: Tensor<2>) -> Option<Tensor<1>> {
        let layout = self.layout(documents);
        let pictures = rows(self, pictures);
        let times = Tensor::zeros([pictures.dims()[0]], &pictures.device());
        let hidden = self.hidden(documents, &layout, pictures, times);
        Some(MllmTransfusion::surprise(self, &layout, hidden))
    }
}

/// Codes on the host.
fn host_codes(codes: Tensor<2>) -> Vec<i64> {
    let codes = host_values(codes).into_iter();
    codes.map(|code| code as i64).collect()
}

impl Learner<CompareMllmRecipe> for MllmVqLm {
    fn loss(&self, mut batch: Batch) -> Loss {
        let codes = batch.latents.remove(PICTURES);
        let (device, codes) = (codes.device(), host_codes(codes));
        MllmVqLm::loss(self, &batch.documents, &codes, &batch.weights, &device)
    }
}

impl Rival<Documents> for MllmVqLm {
    const NAME: &'static str = "vq";
    const READS_CODES: bool = true;
    const SAMPLE_KEYS: &'static [&'static str] = &["mllm.codec.*"];

    fn init(recipe: &CompareMllmRecipe, vocabulary: usize, device: &Device) -> Self {
        recipe.vq_lm(vocabulary).init(device)
    }

    fn draw(&self, request: Request<'_, Documents>) -> Tensor<3> {
        let Request { asked, recipe, .. } = request;
        let (tokens, options) = (recipe.mllm.tokens(), recipe.vq.drawing);
        numbers(self.generate(asked, tokens, &options, request.random, request.device))
    }

    fn surprise(&self, documents: &[Document], pictures: Tensor<2>) -> Option<Tensor<1>> {
        let (device, codes) = (pictures.device(), host_codes(pictures));
        Some(MllmVqLm::surprise(self, documents, &codes, &device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;
    use latentlm::core::conformance::{Stir, seeded};
    use latentlm::sequence::Segment;
    use latentlm_pipelines::Recipe;
    use latentlm_train::Shard;

    /// Tokens of text; the next two are start and stop.
    const VOCABULARY: usize = 6;

    fn recipe() -> CompareMllmRecipe {
        let changes = [
            "mllm.codec.image_size=8",
            "mllm.codec.vit.patch_size=4",
            "mllm.codec.latent_dim=4",
            "mllm.lm.width=32",
            "mllm.lm.depth=1",
            "mllm.lm.heads=2",
            "mllm.lm.kv_heads=1",
            "mllm.lm.head_depth=1",
            "mllm.text.loss_weight=0.5",
            "mllm.text.caption_weight=3.0",
            "transfusion.width=32",
            "transfusion.depth=1",
            "transfusion.heads=2",
            "vq.width=32",
            "vq.depth=1",
            "vq.heads=2",
            "vq.codes=16",
        ];
        CompareMllmRecipe::resolve(None, &changes.map(String::from)).unwrap()
    }

    /// A picture that is drawn, one that is read, text, another that is drawn.
    fn documents() -> Vec<Document> {
        let text = |tokens: &[u32]| Segment::Text {
            tokens: tokens.to_vec(),
            learned: true,
        };
        let picture = |learned| Segment::Latents {
            modality: PICTURES,
            frames: 4,
            open_ended: false,
            said: Vec::new(),
            learned,
        };
        [
            vec![text(&[6, 1]), picture(true), text(&[7])],
            vec![text(&[6]), picture(false), text(&[2, 3, 7])],
            vec![text(&[6, 4, 5, 1, 2, 0, 3, 7])],
            vec![text(&[6]), picture(true), text(&[7])],
        ]
        .map(|segments| Document { segments })
        .to_vec()
    }

    /// Joint loss and cross entropy of the documents in so many shards.
    fn losses<M: Rival<Documents>>(model: &M, pictures: &Tensor<2>, count: usize) -> [f32; 2] {
        let (recipe, documents) = (recipe(), documents());
        let weights = recipe.mllm.text.weights;
        // Two of the pictures are learned, of four latents each.
        let random = &mut RandomStream::new(3);
        let draws = model.draws(&recipe, &[8], random, &Device::default());
        let batch = Batch {
            weights: weights.of(&documents),
            ..Batch::new(documents, vec![pictures.clone()], draws)
        };
        let shards = Shard::all(&batch, weights.loss, count);
        assert_eq!(shards.len(), count);
        let mut sums = [0.0; 2];
        for shard in shards {
            let (total, loss) = shard.loss(|batch| model.loss(batch));
            sums[0] += total.into_scalar::<f32>();
            sums[1] += loss.token.into_scalar::<f32>();
        }
        sums
    }

    fn check<M: Rival<Documents>>(model: M, pictures: Tensor<2>) {
        let model = model.map(&mut Stir(RandomStream::new(5)));
        let whole = losses(&model, &pictures, 1);
        let shards = losses(&model, &pictures, 2);
        for (whole, shards) in whole.iter().zip(shards) {
            let near = (whole - shards).abs() < 1e-4 * whole;
            assert!(near, "{}: {whole} and {shards}", M::NAME);
        }
    }

    #[test]
    fn shards_of_a_pack_add_up_to_it_whatever_the_model() {
        let (recipe, device) = (recipe(), Device::default());
        let latents: Tensor<2> = RandomStream::new(2).normal([12, 4], &device);
        let own = recipe.mllm.model(VOCABULARY);
        let own = seeded(1, &device, |device| own.init(device));
        check(own, latents.clone());
        let image = recipe.mllm.image();
        let transfusion = recipe.transfusion.config(&image, VOCABULARY);
        let transfusion = seeded(1, &device, |device| transfusion.init_mllm(false, device));
        check(transfusion, latents);
        let codes = [[1, 9, 3, 3], [4, 10, 2, 7], [0, 15, 8, 5]];
        let codes = numbers(Tensor::<2, Int>::from_ints(codes, &device));
        let vq = recipe.vq_lm(VOCABULARY);
        check(
            seeded(1, &device, |device| vq.init(device)),
            codes.flatten(0, 1),
        );
    }
}
