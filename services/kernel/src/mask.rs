//! Update masks: the fields of a resource that a caller writes, and the subset that changes.

use crate::{Refusal, Refused, text};
use hansa_proto::Masked;
use prost_types::FieldMask;

/// Returns the fields that a mask names, each once and in the order of `writable`. `*` names all of them.
///
/// # Errors
/// `INVALID_FIELD` if the mask is empty or names a field that cannot be written.
pub fn fields(mask: Option<&FieldMask>, writable: &'static [&'static str]) -> Refused<Vec<&'static str>> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return Err(Refusal::field("update_mask", "is required").help("Name the fields to write, or `*` for all."));
    }
    if let Some(path) = paths.iter().find(|path| *path != "*" && !writable.contains(&path.as_str())) {
        let help = format!("Name any of {}. Other fields have their own rpcs or cannot change.", writable.join(", "));
        return Err(Refusal::field("update_mask", format!("`{}` cannot be updated", text::excerpt(path))).help(help));
    }
    let named = |field: &&str| paths.iter().any(|path| path == "*" || path == field);
    Ok(writable.iter().copied().filter(named).collect())
}

/// Copies `fields` from `asked` to `next` and returns the paths of the fields that differ. Only those are copied to
/// `change`.
pub fn write<R: Masked + PartialEq>(next: &mut R, change: &mut R, asked: &R, fields: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    for path in fields {
        let before = next.clone();
        let known = next.copy_field(path, asked);
        debug_assert!(known, "{path} is not a field of this resource");
        if *next != before {
            change.copy_field(path, asked);
            paths.push((*path).to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hansa_proto::register::Office;

    const WRITABLE: &[&str] = &["seat", "staff_count", "languages"];

    fn named(paths: &[&str]) -> Refused<Vec<&'static str>> {
        fields(Some(&FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }), WRITABLE)
    }

    #[test]
    fn pl_4_a_mask_names_what_can_be_written_and_nothing_else() {
        assert_eq!(named(&["languages", "seat", "languages"]).unwrap(), ["seat", "languages"]);
        assert_eq!(named(&["*"]).unwrap(), WRITABLE);
        for bad in [&[][..], &["city"], &["seat", "city"], &["*", "city"], &["staff"]] {
            let refusal = named(bad).unwrap_err();
            assert_eq!((refusal.rule, refusal.missing[0].subject.as_str()), ("PL-4", "update_mask"));
            assert!(refusal.help.starts_with("Name "), "{refusal}");
        }
        assert!(fields(None, WRITABLE).is_err());
    }

    #[test]
    fn what_is_as_before_is_no_change() {
        let mut office = Office { staff_count: Some(3), seat: 1, ..Default::default() };
        let asked = Office { staff_count: Some(3), seat: 2, languages: vec!["fr".into()], ..Default::default() };
        let mut change = Office::default();
        assert_eq!(write(&mut office, &mut change, &asked, &["seat", "staff_count"]), ["seat"]);
        assert_eq!(office, Office { staff_count: Some(3), seat: 2, ..Default::default() });
        assert_eq!(change, Office { seat: 2, ..Default::default() });
    }
}
