//! Tables of parameters' names.

use burn::store::KeyRemapper;

/// From the first names of a table to the second. They are prefixes that hold for whole dotted segments;
/// `{}` stands for an index. Applied in order.
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
