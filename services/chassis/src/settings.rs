//! The settings in force and where each is from, for people who wonder and programs that check.

use crate::config::{Config, ConfigError};
use figment::Figment;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its key in a configuration file.
    pub key: String,
    /// The variable that sets it; lists stand in a file alone.
    pub variable: Option<String>,
    /// What is in force; secrets are hidden.
    pub value: Value,
    /// Where that is from.
    pub from: String,
}

/// All settings, as `Config::read` reads them.
///
/// # Errors
/// Where the configuration cannot be used.
pub fn settings(file: Option<&Path>, overrides: impl Serialize + Clone) -> Result<Vec<Setting>, ConfigError> {
    let config = Config::read(file, overrides.clone())?;
    let layers = Config::layers(file, overrides);
    let Ok(Value::Object(values)) = serde_json::to_value(config) else {
        return Ok(Vec::new());
    };
    let setting = |(key, value): (String, Value)| Setting {
        variable: (!value.is_array()).then(|| format!("HANSA_{}", key.to_uppercase())),
        from: origin(&layers, &key),
        value: match value {
            Value::String(text) => Value::String(without_secret(&text)),
            other => other,
        },
        key,
    };
    Ok(values.into_iter().map(setting).collect())
}

/// In a word or two, who has set a key.
fn origin(layers: &Figment, key: &str) -> String {
    let Some(metadata) = layers.find_metadata(key) else { return "default".into() };
    if metadata.name == std::any::type_name::<Config>() {
        return "default".into();
    }
    if metadata.name.contains("environment") {
        return "variable".into();
    }
    match metadata.source.as_ref().and_then(|source| source.file_path()) {
        Some(file) => file.display().to_string(),
        None => "command line".into(),
    }
}

/// A URL without what lets its holder in: the password, or all that stands before the host where there is no user's name.
fn without_secret(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return text.into() };
    let shown = rest[..at].split_once(':').map_or(String::new(), |(user, _)| format!("{user}:"));
    format!("{scheme}://{shown}***{}", &rest[at..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn each_setting_says_where_it_is_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hansa.toml");
        std::fs::write(&file, "log_json = true\n").unwrap();
        let given = json!({"nats": "nats://broker:4222", "database": "postgres://hansa:xSECRETx@db/hansa"});
        let settings = settings(Some(&file), given).unwrap();
        let of = |key: &str| settings.iter().find(|setting| setting.key == key).unwrap().clone();
        assert_eq!(of("listen").from, "default");
        assert_eq!(of("listen").variable.as_deref(), Some("HANSA_LISTEN"));
        assert!(of("log_json").from.ends_with("hansa.toml"), "{}", of("log_json").from);
        assert_eq!((of("nats").from.as_str(), of("nats").value), ("command line", json!("nats://broker:4222")));
        assert_eq!(of("database").value, json!("postgres://hansa:***@db/hansa"));
        assert_eq!(of("issuers").variable, None);
    }

    #[test]
    fn no_secret_of_a_url_is_shown() {
        assert_eq!(without_secret("nats://xTOKENx@host:4222"), "nats://***@host:4222");
        assert_eq!(without_secret("postgres://u:a@b@host/x?y=@"), "postgres://u:***@host/x?y=@");
        assert_eq!(without_secret("http://host:4317"), "http://host:4317");
        assert_eq!(without_secret("info,hansa=debug"), "info,hansa=debug");
    }
}
