//! The words of composed utterances.

/// Words to be spelled, separated by spaces.
pub(super) const SPELLED: &str = "able acid also area army away baby back ball band bank base bath bear beat \
    bell best bird blue boat body bone book born both bowl bread brick bus cake call came camp car \
    card care case cat cell chair chalk city clay club coat cold come cook cool corn cow cup dark \
    data dawn day deal deep deer desk dog door down draw dress drop dry duck dust each earth east \
    easy edge egg else even ever eye face fact fair fall farm fast fear feed fern field film find \
    fire fish five flag flat flow food foot form fox free frog fruit full game gate gift girl give \
    glad glass goat gold good grass green grow half hall hand hard hat have head hear heart help \
    high hill hold home hope horse hour house hunt ice idea inch iron jazz job join joke jump just \
    keep key kind king kiss kite knee know lake lamp land last late lead leaf left lemon life light \
    like line lion list live lock long look lost love luck lunch make map mark mask meal meet milk \
    mind moon more moss most move music name near neck nest new nine noon north nose note ocean off \
    oil old open over page paint pair park part past path peak pen pick plan play plum pond poor \
    quick quiet quiz race rain read red rest rice rich ride ring river road rock roof room root rose \
    sail salt sand save sea seat seed ship shoe shop show silk sing six skin sky sleep small snow \
    soap soft song soon soup south star stay stone sugar sun swim table tail tall tea ten tent test \
    tide time toe town train tree true tulip van vase view vote wait walk wall warm wash water wave \
    week well west wheat wide wild wind wine wing wolf wood word work yard year yes zebra zero zone";
/// Numbers below twenty.
pub(super) const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
/// Names of the tens, indexed by their digit.
pub(super) const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
/// Days of the week.
pub(super) const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
/// Months.
pub(super) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// Days of a month up to the twentieth.
pub(super) const ORDINALS: [&str; 20] = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
];
