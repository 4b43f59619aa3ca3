//! `quantize`: a published model with weights of 8 or 4 bits.

use latentlm_args::{Quantize, QuantizedNumbers, say};
use latentlm_published::{WeightBits, quantize_folder};

use crate::phase;

/// Writes the folder, and prints its size.
pub(crate) fn run(args: &Quantize) -> anyhow::Result<()> {
    let bits = match args.weights {
        QuantizedNumbers::Int8 => WeightBits::Eight,
        QuantizedNumbers::Int4 => WeightBits::Four,
    };
    phase::show_long();
    phase::begin("quantizing the backbone");
    let done = quantize_folder(&args.model, &args.out, bits)?;
    phase::begin("");
    say!(
        "{}: {} matrices quantized, {:.2} GB of {:.2} GB",
        args.out.display(),
        done.matrices,
        done.bytes as f64 / 1e9,
        done.bytes_before as f64 / 1e9
    );
    Ok(())
}
