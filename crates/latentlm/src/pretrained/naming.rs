//! Names of parameters: theirs and ours.

use burn::store::KeyRemapper;

use crate::renaming::remapper;

/// Pairs of name prefixes, theirs and ours, that hold for whole dotted segments; `{}` stands for an
/// index. Applied in order, in either direction; the round trip over every parameter of a model is
/// tested.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naming {
    rules: Vec<(String, String)>,
}

impl Naming {
    pub(crate) fn new(rules: &[(&str, &str)]) -> Self {
        Self::default().and("", "", rules)
    }

    /// Adds rules, their names below `theirs`, ours below `ours`.
    pub(crate) fn and(mut self, theirs: &str, ours: &str, rules: &[(&str, &str)]) -> Self {
        let below = |root: &str, name: &str| match (root, name) {
            ("", name) => name.to_owned(),
            (root, name) => format!("{root}.{name}"),
        };
        let rules = rules
            .iter()
            .map(|(a, b)| (below(theirs, a), below(ours, b)));
        self.rules.extend(rules);
        self
    }

    /// From their names to ours.
    pub(crate) fn import(&self) -> KeyRemapper {
        let rules = self.rules.iter();
        remapper(rules.map(|(theirs, ours)| (theirs.as_str(), ours.as_str())))
    }

    /// From our names to theirs.
    pub(crate) fn export(&self) -> KeyRemapper {
        let rules = self.rules.iter();
        remapper(rules.map(|(theirs, ours)| (ours.as_str(), theirs.as_str())))
    }

    /// Their name of one of ours.
    pub(crate) fn theirs(&self, ours: &str) -> String {
        let mut name = ours.to_owned();
        for (pattern, replacement) in self.export().to_regex_pairs() {
            name = pattern.replace(&name, replacement.as_str()).into_owned();
        }
        name
    }
}

/// One linear of ours that the checkpoint keeps as several: their rows lie one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joined {
    pub(crate) theirs: [&'static str; 3],
    pub(crate) ours: &'static str,
    /// Rows of each part.
    pub(crate) rows: [usize; 3],
}

impl Joined {
    /// The part that a parameter's name (its parent already ours) belongs to, and the whole's name.
    pub(crate) fn part(&self, name: &str) -> Option<(usize, String)> {
        self.theirs.iter().enumerate().find_map(|(index, part)| {
            let (parent, parameter) = name.rsplit_once('.')?;
            let parent = parent.strip_suffix(part)?.strip_suffix('.')?;
            Some((index, format!("{parent}.{}.{parameter}", self.ours)))
        })
    }

    /// The name of a part of the whole `name`, if that is one.
    pub(crate) fn name_of_part(&self, name: &str, part: &str) -> Option<String> {
        let (parent, parameter) = name.rsplit_once('.')?;
        let parent = parent.strip_suffix(self.ours)?.strip_suffix('.')?;
        Some(format!("{parent}.{part}.{parameter}"))
    }
}

/// Asserts that every parameter of a module gets a name of theirs that leads back to it, and no two
/// the same.
#[cfg(test)]
pub(crate) fn check_round_trip<M: burn::module::Module>(module: &M, naming: &Naming, own: &[&str]) {
    use burn::store::ModuleSnapshot;
    let tensors = module.collect(None, None, true);
    let ours: Vec<String> = tensors
        .into_iter()
        .map(|tensor| tensor.name)
        .filter(|name| !own.contains(&name.as_str()))
        .collect();
    let mut theirs: Vec<String> = ours.iter().map(|name| naming.theirs(name)).collect();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let mut back = theirs.clone();
        for (pattern, replacement) in naming.import().to_regex_pairs() {
            back = pattern.replace(&back, replacement.as_str()).into_owned();
        }
        assert_eq!(&back, ours, "{theirs}");
        assert_ne!(theirs, ours, "no rule for {ours}");
    }
    theirs.sort();
    theirs.dedup();
    assert_eq!(theirs.len(), ours.len(), "two parameters share a name");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_segments_are_kept() {
        let naming = Naming::new(&[("layers.{}.fc", "blocks.{}.up"), ("layers.{}", "blocks.{}")]);
        let rename = |names: KeyRemapper, name: &str| {
            let mut name = name.to_owned();
            for (pattern, replacement) in names.to_regex_pairs() {
                name = pattern.replace(&name, replacement.as_str()).into_owned();
            }
            name
        };
        for (theirs, ours) in [
            ("layers.12.fc.weight", "blocks.12.up.weight"),
            ("layers.3.fca.weight", "blocks.3.fca.weight"),
            ("layersx.3.fc", "layersx.3.fc"),
        ] {
            assert_eq!(rename(naming.import(), theirs), ours);
            assert_eq!(naming.theirs(ours), theirs);
        }
    }

    #[test]
    fn parts_know_their_whole() {
        let joined = Joined {
            theirs: ["q_proj", "k_proj", "v_proj"],
            ours: "qkv",
            rows: [4, 2, 2],
        };
        let whole = "blocks.0.attn.qkv.bias".to_owned();
        let part = "blocks.0.attn.k_proj.bias".to_owned();
        assert_eq!(joined.part(&part), Some((1, whole.clone())));
        assert_eq!(joined.name_of_part(&whole, "k_proj"), Some(part));
        assert_eq!(joined.part("blocks.0.attn.ok_proj.bias"), None);
    }
}
