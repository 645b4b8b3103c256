//! Turns the published documents from YAML, in which they are written, into the JSON in which they are served. Without the
//! server there is nothing to turn.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "server")]
    documents::turn()?;
    Ok(())
}

#[cfg(feature = "server")]
mod documents {
    use std::{env, error::Error, fs, path::Path};

    #[expect(clippy::disallowed_methods, reason = "cargo tells a build script everything through the environment")]
    pub(super) fn turn() -> Result<(), Box<dyn Error>> {
        let out = env::var("OUT_DIR")?;
        for name in ["grid", "blips", "operator"] {
            let source = format!("api/{name}.openapi.yaml");
            println!("cargo::rerun-if-changed={source}");
            let document: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(&source)?)?;
            fs::write(Path::new(&out).join(format!("{name}.openapi.json")), serde_json::to_string(&document)?)?;
        }
        Ok(())
    }
}
