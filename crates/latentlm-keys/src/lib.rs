//! Keys of recipes: which keys exist, which values they allow, and how files and overrides change them.
//!
//! Each part of the model declares its keys once, in a table in its own folder: type, range, default and one
//! line of help for each key ([`Key`]). The Rust configuration reads its defaults from that table. Recipes
//! are checked against it twice: by `cargo xtask` before it builds anything, and by the library that
//! resolves the recipe. A fork's part brings its own table.
//!
//! - [`Keys`] are all keys of a recipe, its own and those of its parts.
//! - [`Keys::assemble`] reads them from texts, [`Workspace::keys`] from the folders of a workspace.
//!   `src/tables.rs` describes the table files.
//! - [`resolve`] applies a file and overrides to a preset. [`lay`] does the same on a plain TOML table.
//!   [`check`] checks a finished configuration.
//!
//! ```
//! use latentlm_keys::{Keys, lay};
//!
//! let keys = Keys::parse(
//!     r#"
//!     [sample]
//!     steps = { type = "integer", default = 20, min = 1, max = 1000, help = "Solver steps per latent" }
//!     "#,
//! )?;
//! let recipe = lay(&keys, keys.default_table(), "".as_ref(), None, &["sample.steps=50".into()])?;
//! assert_eq!(recipe["sample"]["steps"].as_integer(), Some(50));
//! let wrong = lay(&keys, keys.default_table(), "".as_ref(), None, &["sample.steps=1e9".into()]).unwrap_err();
//! assert_eq!(
//!     wrong.to_string(),
//!     "override `sample.steps=1e9`: `sample.steps` must be a whole number from 1 to 1000, not 1000000000.0"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod key;
mod keys;
mod kind;
pub mod overrides;
mod recipe;
mod tables;
mod text;
mod workspace;

pub use error::RecipeError;
pub use key::{Key, Kind};
pub use keys::{KeyError, Keys, lookup};
pub use kind::RunKind;
pub use recipe::{check, lay, resolve, to_toml};
pub use tables::{ReadTable, TableError};
pub use text::{escaped, printable, shown};
pub use toml::{Table, Value};
pub use workspace::Workspace;
