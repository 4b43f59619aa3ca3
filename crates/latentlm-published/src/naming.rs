//! Names of parameters: theirs and ours.

use burn::store::KeyRemapper;
use latentlm_core::bundle::remapper;

/// Names of the published language model and of the backbone.
pub(crate) const LANGUAGE_MODEL: [(&str, &str); 8] = [
    ("layers.{}.input_layernorm", "blocks.{}.norm1"),
    ("layers.{}.post_attention_layernorm", "blocks.{}.norm2"),
    ("layers.{}.self_attn.o_proj", "blocks.{}.attn.proj"),
    ("layers.{}.self_attn", "blocks.{}.attn"),
    ("layers.{}.mlp.gate_proj", "blocks.{}.mlp.up.linear_inner"),
    ("layers.{}.mlp.up_proj", "blocks.{}.mlp.up.linear_outer"),
    ("layers.{}.mlp.down_proj", "blocks.{}.mlp.down"),
    ("norm", "norm"),
];

/// Pairs of name prefixes, theirs and ours, as [`remapper`] applies them, in either direction. Tests send
/// every parameter of a model there and back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naming {
    rules: Vec<(String, String)>,
    /// Other spellings of their names, and the one that `rules` have. Only for reading.
    spellings: Vec<(String, String)>,
}

impl Naming {
    pub(crate) fn new(rules: &[(&str, &str)]) -> Self {
        Self::default().and("", "", rules)
    }

    /// Adds rules, their names below `theirs`, ours below `ours`.
    pub(crate) fn and(mut self, theirs: &str, ours: &str, rules: &[(&str, &str)]) -> Self {
        for (their_name, our_name) in rules {
            let names = (below(theirs, their_name), below(ours, our_name));
            self.rules.push(names);
        }
        self
    }

    /// Adds other spellings of their names, which some files have.
    pub(crate) fn also_spelled(mut self, spellings: &[(&str, &str)]) -> Self {
        for (other, theirs) in spellings {
            let pair = ((*other).to_owned(), (*theirs).to_owned());
            self.spellings.push(pair);
        }
        self
    }

    /// From their names to ours.
    pub(crate) fn import(&self) -> KeyRemapper {
        let rules = self.spellings.iter().chain(&self.rules);
        remapper(rules.map(|(theirs, ours)| (theirs.as_str(), ours.as_str())))
    }

    /// From our names to theirs.
    pub(crate) fn export(&self) -> KeyRemapper {
        let rules = self.rules.iter();
        remapper(rules.map(|(theirs, ours)| (ours.as_str(), theirs.as_str())))
    }

    /// Their name of one of ours.
    pub(crate) fn theirs(&self, ours: &str) -> String {
        renamed(&self.export(), ours)
    }
}

/// A name below a root, either of which may be empty.
pub(crate) fn below(root: &str, name: &str) -> String {
    match (root, name) {
        ("", name) => name.to_owned(),
        (root, "") => root.to_owned(),
        (root, name) => format!("{root}.{name}"),
    }
}

/// Applies a table of names to a name.
pub(crate) fn renamed(names: &KeyRemapper, name: &str) -> String {
    let mut name = name.to_owned();
    for (pattern, replacement) in &names.patterns {
        name = pattern.replace(&name, replacement.as_str()).into_owned();
    }
    name
}

/// A linear layer of ours that the checkpoint keeps as several, whose rows ours holds one after the other.
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
        assert_eq!(&renamed(&naming.import(), theirs), ours, "{theirs}");
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
        for (theirs, ours) in [
            ("layers.12.fc.weight", "blocks.12.up.weight"),
            ("layers.3.fca.weight", "blocks.3.fca.weight"),
            ("layersx.3.fc", "layersx.3.fc"),
        ] {
            assert_eq!(renamed(&naming.import(), theirs), ours);
            assert_eq!(naming.theirs(ours), theirs);
        }
    }

    /// Other spellings are read and not written.
    #[test]
    fn names_may_be_spelled_in_several_ways() {
        let naming = Naming::new(&[("proj.fc1", "up")]);
        let naming = naming.also_spelled(&[("embedder.layer_1", "proj.fc1")]);
        for theirs in ["proj.fc1.weight", "embedder.layer_1.weight"] {
            assert_eq!(renamed(&naming.import(), theirs), "up.weight");
        }
        assert_eq!(naming.theirs("up.weight"), "proj.fc1.weight");
    }

    #[test]
    fn rules_stand_below_their_roots() {
        let naming = Naming::default().and("model.tower", "", &[("fc", "up"), ("", "codec")]);
        assert_eq!(naming.theirs("up.bias"), "model.tower.fc.bias");
        assert_eq!(naming.theirs("codec.gain"), "model.tower.gain");
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
