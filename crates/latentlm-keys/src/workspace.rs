//! Finds key tables in the package folders of a workspace.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::keys::Keys;
use crate::tables::TableError;
use crate::text::one_line;

/// The package folders of a workspace, by the names in `[workspace.dependencies]`.
///
/// A fork swaps a part by changing one line of that table. The keys are then read from the folder in that
/// line.
#[derive(Debug, Clone, Default)]
pub struct Workspace {
    folders: BTreeMap<String, PathBuf>,
}

impl Workspace {
    /// Reads the workspace in a folder.
    ///
    /// # Errors
    /// If `Cargo.toml` can't be read or is not TOML.
    pub fn open(root: &Path) -> Result<Self, TableError> {
        let path = root.join("Cargo.toml");
        let wrong = |reason: String| TableError::new(path.display().to_string(), reason);
        let text = fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
        let manifest: Table = text
            .parse()
            .map_err(|e: toml::de::Error| wrong(one_line(e.message())))?;
        let dependencies = manifest
            .get("workspace")
            .and_then(|workspace| workspace.get("dependencies"))
            .and_then(Value::as_table);
        let mut folders = BTreeMap::new();
        for (name, dependency) in dependencies.into_iter().flatten() {
            if let Some(folder) = dependency.get("path").and_then(Value::as_str) {
                folders.insert(name.clone(), root.join(folder));
            }
        }
        Ok(Self { folders })
    }

    /// The keys of a recipe by table name: `latentlm-pipelines/image` is `keys/image.toml` in the folder of
    /// that package.
    ///
    /// # Errors
    /// If a file can't be read or is invalid.
    pub fn keys(&self, table: &str) -> Result<Keys, TableError> {
        Keys::assemble(table, &|name| self.read(name))
    }

    fn read(&self, table: &str) -> Result<Option<String>, TableError> {
        let (package, file) = table.split_once('/').unwrap_or((table, ""));
        // A package from a registry has no folder here, so its table can't be read.
        let Some(folder) = self.folders.get(package) else {
            return Ok(None);
        };
        let path = match file {
            "" => folder.join("keys.toml"),
            file => folder.join("keys").join(file).with_extension("toml"),
        };
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TableError::new(
                path.display().to_string(),
                error.to_string(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = "[codec]\n{name} = { type = \"integer\", default = 1, help = \"A size\" }\n";
    const RECIPE: &str = "include = [{ from = \"codec\", serves = [\"codec\"] }]\n";

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The keys come from the folder named in the manifest.
    #[test]
    fn a_swapped_part_brings_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "pipelines/keys/image.toml", RECIPE);
        write(root, "ours/keys.toml", &PART.replace("{name}", "width"));
        write(
            root,
            "fork/theirs/keys.toml",
            &PART.replace("{name}", "gain"),
        );
        let names = |line: &str| {
            let text = format!(
                "[workspace]\n[workspace.dependencies]\npipelines = {{ path = \"pipelines\" }}\n\
                 serde = \"1\"\n{line}\n"
            );
            write(root, "Cargo.toml", &text);
            let keys = Workspace::open(root).unwrap().keys("pipelines/image");
            let keys = keys.unwrap();
            let names = keys.iter().map(|(name, _)| name.to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names("codec = { path = \"ours\" }"), ["codec.width"]);
        let swapped = "codec = { path = \"fork/theirs\", package = \"their-codec\" }";
        assert_eq!(names(swapped), ["codec.gain"]);
        assert!(names("codec = { path = \"pipelines\" }").is_empty());
        assert!(names("codec = \"1\"").is_empty());
    }

    #[test]
    fn a_folder_that_is_no_workspace_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Workspace::open(dir.path()).unwrap_err();
        assert!(error.table.ends_with("Cargo.toml"), "{error}");
        write(dir.path(), "Cargo.toml", "[workspace]\n");
        let error = Workspace::open(dir.path()).unwrap().keys("a/b");
        assert_eq!(error.unwrap_err().table, "a/b");
    }
}
