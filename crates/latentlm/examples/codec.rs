//! A sound to the latents of a trained run's codec, and back to a sound:
//!
//! ```sh
//! cargo run -p latentlm --features cpu --example codec -- runs/voice hello.wav again.wav
//! ```

use std::error::Error;
use std::path::Path;

use latentlm_data::speech::{read_audio, write_wav};
use latentlm_pipelines::SpeechCodec;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, input, output] = &arguments[..] else {
        return Err("usage: codec RUN INPUT.wav OUTPUT.wav".into());
    };
    let device = latentlm::device("cpu")?;
    let codec = SpeechCodec::from_run(Path::new(run), &device)?;
    let rate = codec.sample_rate_hz();
    let sound = read_audio(Path::new(input))?.resampled(rate);
    let latents = codec.encode(sound.samples); // [1, T, Z]
    write_wav(Path::new(output), &codec.decode(latents), rate)?;
    Ok(())
}
