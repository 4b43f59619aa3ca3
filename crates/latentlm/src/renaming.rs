//! Tables of parameters' names.

use burn::store::KeyRemapper;

/// Renames by a table of pairs, from the first name to the second. Names are prefixes of whole dotted
/// segments; `{}` stands for an index. Pairs are applied in order.
pub(crate) fn remapper<'a>(rules: impl Iterator<Item = (&'a str, &'a str)>) -> KeyRemapper {
    rules.fold(KeyRemapper::new(), |names, (from, to)| {
        let indices = from.matches("{}").count();
        let pattern = from.replace('.', r"\.").replace("{}", r"(\d+)");
        let mut replacement = to.to_owned();
        for index in 1..=indices {
            replacement = replacement.replacen("{}", &format!("${{{index}}}"), 1);
        }
        let end = format!("${{{}}}", indices + 1);
        names
            .add_pattern(format!(r"^{pattern}(\.|$)"), replacement + &end)
            .expect("a pattern of escaped dots and indices is valid")
    })
}
