//! JSON pointers (RFC 6901): where in a document something is wrong.

use serde_path_to_error::{Path, Segment};

/// The pointer to what a deserializer stopped at.
pub fn of(path: &Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Map { key } => below(&pointer, key),
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

/// The pointer to a member of what `pointer` names (§3).
pub fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_pointer_escapes_what_it_is_made_of() {
        let read = |json: &str| {
            let mut json = serde_json::Deserializer::from_str(json);
            serde_path_to_error::deserialize::<_, HashMap<String, Vec<u8>>>(&mut json)
        };
        let pointer = |json: &str| of(read(json).expect_err("not a number").path());
        assert_eq!(pointer(r#"{"items":[1,"x"]}"#), "/items/1");
        assert_eq!(pointer(r#"{"a/b~":[null]}"#), "/a~1b~0/0");
    }
}
