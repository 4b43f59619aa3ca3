//! One variant of an image recipe: its name and overrides.

/// A variant of an image recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// Overrides of the recipe that other variants may have too. `lm.from` names the variant that this one begins
    /// from.
    shared: &'static [&'static str],
    /// Overrides after these.
    own: &'static [&'static str],
}

impl Variant {
    pub(crate) const fn new(name: &'static str, own: &'static [&'static str]) -> Self {
        Self::with(name, &[], own)
    }

    pub(crate) const fn with(
        name: &'static str,
        shared: &'static [&'static str],
        own: &'static [&'static str],
    ) -> Self {
        Self { name, shared, own }
    }

    /// Overrides that make it from the default recipe.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &'static str> {
        self.shared.iter().chain(self.own).copied()
    }

    /// The overrides that training depends on: all but those of `[sample]`.
    pub(crate) fn training(&self) -> impl Iterator<Item = &'static str> {
        let changes = self.changes();
        changes.filter(|change| !change.starts_with("sample."))
    }

    /// Name of the variant that it begins from.
    pub(crate) fn teacher(&self) -> Option<&'static str> {
        let mut changes = self.changes();
        changes.find_map(|change| change.strip_prefix("lm.from="))
    }
}
