//! Keys of recipes: which there are, what values fit them, and how files and overrides change them.
//!
//! Each part of the model declares its keys once, in a plain table in its own folder: type, range, default
//! and a line of help a key ([`Key`]). Rust takes its defaults from that table; a recipe is checked against
//! it, by the library that resolves it and by `cargo xtask`, which has no tensors and answers before
//! anything is built. A fork's part brings its own table.
//!
//! - [`Keys`] are the keys of a recipe: of all its parts, and its own.
//! - [`Keys::assemble`] reads them from texts, [`Workspace::keys`] from the folders of a workspace. How
//!   table files look is said in `src/tables.rs`.
//! - [`resolve`] lays a file and overrides over a preset, [`lay`] does so without the Rust type,
//!   [`check`] looks at a finished configuration.
//!
//! ```
//! use latentlm_keys::{Keys, lay};
//!
//! let keys = Keys::parse(
//!     r#"
//!     [sample]
//!     steps = { type = "integer", default = 20, min = 1, max = 1000, help = "Solver steps a latent" }
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

mod key;
mod keys;
pub mod overrides;
mod recipe;
mod tables;
mod text;
mod workspace;

pub use key::{Key, Kind};
pub use keys::{KeyError, Keys};
pub use recipe::{RecipeError, check, lay, resolve, to_toml};
pub use tables::{ReadTable, TableError};
pub use text::{escaped, shown};
pub use toml::{Table, Value};
pub use workspace::Workspace;
