//! Reads published files, and shows progress.

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use std::{fs::File, io::Read, path::Path};

/// Size of the read buffer, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// Opens a file, which may be gzipped, and returns a reader of its rows. A header is returned as the first row.
pub fn rows(file: &Path, delimiter: u8) -> anyhow::Result<csv::Reader<Box<dyn Read + Send>>> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let gzipped = file.extension().is_some_and(|ending| ending == "gz");
    let reader: Box<dyn Read + Send> = if gzipped { Box::new(MultiGzDecoder::new(opened)) } else { Box::new(opened) };
    let quoting = delimiter != b'\t';
    Ok(csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .quoting(quoting)
        .buffer_capacity(LINE_BYTES)
        .from_reader(reader))
}

/// Returns the line number of a row in its file, starting at 1.
pub fn line(record: &csv::StringRecord) -> usize {
    record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(usize::MAX))
}

/// Returns a progress bar, which is hidden if the output is not a terminal.
pub fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<28} {wide_bar} {human_pos}/{human_len} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(what.to_owned())
}
