//! The one table of commands.

use clap::Subcommand;

use crate::shared::Trained;
use crate::{
    ArgsError, BenchDecode, BenchKernels, BenchProbe, BenchScaling, BenchWorker, Caption, Codec,
    Compare, ConvertVoice, Data, DeviceName, EvalImage, EvalMllm, EvalTts, EvalVideo, Generate,
    ListAdapters, MakeModel, Project, Quantize, Run, SampleImage, SampleVideo, Speak, TrainImage,
    TrainMllm, TrainTts, TrainVideo, Transcribe, VerifyReference,
};

/// A command of the binary `latentlm`, with its arguments.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the docs of each struct describe its command, also in the help"
)]
pub enum Command {
    TrainImage(TrainImage),
    TrainTts(TrainTts),
    TrainMllm(TrainMllm),
    TrainVideo(TrainVideo),
    SampleImage(SampleImage),
    EvalImage(EvalImage),
    Speak(Speak),
    ConvertVoice(ConvertVoice),
    EvalTts(EvalTts),
    Transcribe(Transcribe),
    #[command(subcommand)]
    Codec(Codec),
    Generate(Generate),
    Caption(Caption),
    EvalMllm(EvalMllm),
    SampleVideo(SampleVideo),
    EvalVideo(EvalVideo),
    #[command(subcommand)]
    Compare(Compare),
    BenchDecode(BenchDecode),
    VerifyReference(VerifyReference),
    MakeModel(MakeModel),
    Quantize(Quantize),
    #[command(subcommand)]
    Data(Data),
    #[command(subcommand)]
    Run(Run),
    #[command(hide = true)]
    BenchWorker(BenchWorker),
    #[command(hide = true)]
    BenchKernels(BenchKernels),
    #[command(hide = true)]
    BenchProbe(BenchProbe),
    #[command(hide = true)]
    BenchScaling(BenchScaling),
    #[command(hide = true)]
    ListAdapters(ListAdapters),
}

impl Command {
    /// Checks what needs no tensors and no time: names of devices, input files, places of output files, existing
    /// or new runs, the form of overrides. Programs call it before they build or compute.
    ///
    /// # Errors
    /// With the first problem.
    pub fn check(&self, project: &Project) -> Result<(), ArgsError> {
        if let Some(trained) = self.trained() {
            return trained.check(project);
        }
        match self {
            Self::SampleImage(args) => args.check(project),
            Self::EvalImage(args) => args.sampling.check(project),
            Self::Speak(args) => args.check(project),
            Self::ConvertVoice(args) => args.check(project),
            Self::EvalTts(args) => args.check(project),
            Self::Transcribe(args) => args.check(project),
            Self::Codec(args) => args.check(project),
            Self::Generate(args) => args.check(project),
            Self::Caption(args) => args.check(project),
            Self::EvalMllm(args) => {
                project.find_device_and_run(&args.drawing.device, &args.run, "train-mllm")
            }
            Self::SampleVideo(args) => args.check(project),
            Self::EvalVideo(args) => {
                project.find_device_and_run(&args.drawing.device, &args.run, "train-video")
            }
            Self::Compare(Compare::Sampling(args)) => {
                project.find_device_and_run(&args.device, &args.run, "train-image")
            }
            Self::VerifyReference(args) => args.check(project),
            Self::MakeModel(args) => args.check(project),
            Self::Quantize(args) => args.check(project),
            Self::Data(args) => args.check(project),
            Self::Run(args) => args.check(project),
            Self::BenchKernels(args) => project.find_place(&args.out),
            Self::BenchScaling(args) => {
                self.devices()?;
                project.find_folder_place(&args.out)
            }
            // The others name a device at most.
            _ => self.devices().map(drop),
        }
    }

    /// Checks the recipe of a command that trains: every key and value, against the tables that the parts of
    /// the workspace in the project's folder declare, and the paths that it names. Relations between keys are
    /// checked by the command itself.
    ///
    /// # Errors
    /// With the first thing that is wrong, in the words of the command itself.
    pub fn check_recipe(&self, project: &Project) -> Result<(), ArgsError> {
        self.trained()
            .map_or(Ok(()), |trained| trained.check_recipe(project))
    }

    /// The training that the command starts, if it trains. A new command that trains needs its line here only, a comparison
    /// in [`Compare::trained`].
    fn trained(&self) -> Option<Trained<'_>> {
        let (training, run, command, table) = match self {
            Self::TrainImage(args) => (
                &args.training,
                &args.run,
                "train-image",
                "latentlm-pipelines/image",
            ),
            Self::TrainTts(args) => (
                &args.training,
                &args.run,
                "train-tts",
                "latentlm-pipelines/tts",
            ),
            Self::TrainMllm(args) => (
                &args.training,
                &args.run,
                "train-mllm",
                "latentlm-pipelines/mllm",
            ),
            Self::TrainVideo(args) => (
                &args.training,
                &args.run,
                "train-video",
                "latentlm-pipelines/video",
            ),
            Self::Compare(compare) => return compare.trained(),
            _ => return None,
        };
        Some(Trained {
            training,
            run,
            command,
            table,
        })
    }

    /// The devices that the command names; empty for commands without `--device`. The binary needs a
    /// backend for each.
    ///
    /// # Errors
    /// If a name is not a valid device name.
    pub fn devices(&self) -> Result<Vec<DeviceName>, ArgsError> {
        if let Some(trained) = self.trained() {
            return DeviceName::parse_list(&trained.training.device);
        }
        let device: &str = match self {
            Self::SampleImage(args) => &args.sampling.drawing.device,
            Self::EvalImage(args) => &args.sampling.drawing.device,
            Self::Speak(args) => &args.drawing.device,
            Self::EvalTts(args) => &args.drawing.device,
            Self::Transcribe(args) => &args.device,
            Self::Codec(args) => &args.files().device,
            Self::Generate(args) => &args.drawing.device,
            Self::Caption(args) => &args.device,
            Self::EvalMllm(args) => &args.drawing.device,
            Self::SampleVideo(args) => &args.drawing.device,
            Self::EvalVideo(args) => &args.drawing.device,
            Self::Compare(Compare::Sampling(args)) => &args.device,
            Self::BenchDecode(args) => &args.device,
            Self::VerifyReference(args) => &args.device,
            Self::BenchWorker(args) => &args.device,
            Self::BenchScaling(args) => &args.device,
            Self::ListAdapters(args) => &args.kind,
            _ => return Ok(Vec::new()),
        };
        Ok(vec![DeviceName::parse(device)?])
    }

    /// Whether the command computes on its devices, so that their drivers must be installed.
    pub fn computes(&self) -> bool {
        !matches!(
            self,
            Self::ConvertVoice(_)
                | Self::MakeModel(_)
                | Self::Quantize(_)
                | Self::Data(_)
                | Self::Run(_)
                | Self::ListAdapters(_)
        )
    }
}

#[cfg(test)]
mod tests;
