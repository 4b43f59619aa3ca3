//! Says a text with a trained run, into a WAV file:
//!
//! ```sh
//! cargo run -p latentlm --features cpu --example speak -- runs/voice "three five nine" hello.wav
//! ```

use std::error::Error;
use std::path::Path;

use latentlm_data::speech::write_wav;
use latentlm_pipelines::SpeechPipeline;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, text, file] = &arguments[..] else {
        return Err("usage: speak RUN TEXT FILE.wav".into());
    };
    let device = latentlm::device("cpu")?;
    let pipeline = SpeechPipeline::from_run(Path::new(run), &device)?;
    let options = pipeline.recipe().sample_options();
    // One text gives one piece of speech; `stream` would hand out its sound while it is made.
    for speech in pipeline.say(std::slice::from_ref(text), None, &options, 1)? {
        write_wav(Path::new(file), &speech.samples, pipeline.sample_rate_hz())?;
    }
    Ok(())
}
