//! `make-model`: folders of published sizes with random weights.

use latentlm_args::{MakeModel, PublishedModel, StoredNumbers, say};
use latentlm_published::{Dialect, RandomOptions, RandomSizes, StoredDType, make_random};

use crate::phase;

/// Sizes of a published model.
pub(crate) fn sizes(model: PublishedModel) -> RandomSizes {
    match model {
        PublishedModel::Speech1_5B => RandomSizes::speech_1_5b(),
        PublishedModel::Speech7B => RandomSizes::speech_7b(),
        PublishedModel::Realtime => RandomSizes::realtime(),
        PublishedModel::Recognition => RandomSizes::recognition(),
    }
}

/// Makes the folder, and prints its content.
pub(crate) fn run(args: &MakeModel) -> anyhow::Result<()> {
    let sizes = sizes(args.model);
    let options = RandomOptions {
        dialect: if args.transformers {
            Dialect::Transformers
        } else {
            Dialect::Original
        },
        dtype: match args.dtype {
            StoredNumbers::F32 => StoredDType::Float32,
            StoredNumbers::Bf16 => StoredDType::Bfloat16,
            StoredNumbers::F16 => StoredDType::Float16,
        },
        seed: args.seed,
        ..RandomOptions::default()
    };
    phase::show_long();
    phase::begin("drawing weights");
    let made = make_random(&sizes, &args.out, options)?;
    phase::begin("");
    say!(
        "{}: {:.2} billion parameters, {:.2} GB in {} files; it has no tokenizer.json, which --tokenizer names",
        args.out.display(),
        made.parameters as f64 / 1e9,
        made.bytes as f64 / 1e9,
        made.files
    );
    Ok(())
}
