//! Whether the frames of a GIF lie on its screen. The decoder of frames crops those that don't, and does not say so.

use std::fs::File;

use gif::{DecodeOptions, Decoder};

/// The screen of a GIF, with its frames one after the other. Reads where they lie, and decodes none.
pub(super) struct Screen(Option<Decoder<File>>);

impl Screen {
    /// Begins with the first frame of a file. The decoder of frames says what is wrong with a damaged one.
    pub(super) fn of(file: File) -> Self {
        let mut options = DecodeOptions::new();
        options.skip_frame_decoding(true);
        Self(options.read_info(file).ok())
    }

    /// Goes on to the next frame. Returns what is wrong if a part of it lies beyond the screen.
    pub(super) fn beyond(&mut self) -> Option<String> {
        let decoder = self.0.as_mut()?;
        let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
        let frame = decoder.next_frame_info().ok()??;
        let [left, top, wide, high] =
            [frame.left, frame.top, frame.width, frame.height].map(u32::from);
        let on_screen = left + wide <= width && top + high <= height;
        (!on_screen).then(|| {
            format!(
                "its {wide} x {high} pixels from column {left} and row {top} on do not fit the GIF's {width} x {height}"
            )
        })
    }
}
