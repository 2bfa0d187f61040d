//! The configuration report (`hansa config`): every setting, its value, and where the value comes from.

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
    /// The environment variable that sets it; `None` for lists, which only a file can set.
    pub variable: Option<String>,
    /// The value, without secrets.
    pub value: Value,
    /// Where the value comes from: default, file, variable or command line.
    pub from: String,
}

/// Returns all settings, as `Config::read` reads them.
///
/// # Errors
/// If the configuration is invalid.
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

/// Returns where the value of a key comes from.
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

/// Hides the secret in a URL: the password, or everything before the host if there is no user name.
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
    fn each_setting_says_where_it_comes_from() {
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
    fn the_secret_of_a_url_is_hidden() {
        assert_eq!(without_secret("nats://xTOKENx@host:4222"), "nats://***@host:4222");
        assert_eq!(without_secret("postgres://u:a@b@host/x?y=@"), "postgres://u:***@host/x?y=@");
        assert_eq!(without_secret("http://host:4317"), "http://host:4317");
        assert_eq!(without_secret("info,hansa=debug"), "info,hansa=debug");
    }
}
