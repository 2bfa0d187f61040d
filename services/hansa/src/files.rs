//! Reading published files, and showing how far it has come.

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use std::{fs::File, io::Read, path::Path};

/// Longest line of a file that is read, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// The rows of a file: the header first, where it has one. Gzipped files are read as they are.
pub fn rows(file: &Path, delimiter: u8) -> anyhow::Result<csv::Reader<Box<dyn Read + Send>>> {
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
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

/// The line of a row in its file, from 1.
pub fn line(record: &csv::StringRecord) -> usize {
    record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(usize::MAX))
}

/// A bar for long work; hidden where nobody looks.
pub fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<28} {wide_bar} {human_pos}/{human_len} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(what.to_owned())
}
