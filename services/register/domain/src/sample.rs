//! Real places.
