//! Names of users.

use gpuscope_model::Text;
use std::collections::HashMap;

/// Names by user number, as a `passwd` file lists them.
///
/// Users that only a directory service knows have a number and no name here: asking the service would block, and needs its libraries.
#[derive(Clone, Debug, Default)]
pub struct Users(HashMap<u32, Text>);

impl Users {
    /// Parses the text of a `passwd` file (passwd(5): `name:password:UID:GID:…`). Lines of another shape are passed over; of two names
    /// for one number the first counts, as getpwuid(3) has it.
    pub fn parse(passwd: &str) -> Self {
        let mut users = HashMap::new();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
            if let (false, Ok(uid)) = (name.is_empty(), uid.parse()) {
                users.entry(uid).or_insert_with(|| Text::from(name.to_string()));
            }
        }
        Users(users)
    }

    /// The number of the user of this name: the lowest, should there be several.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.0.iter().filter(|(_, of)| of.as_str() == name).map(|(uid, _)| *uid).min()
    }

    /// The user's name.
    pub fn name(&self, uid: u32) -> Option<&Text> {
        self.0.get(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_number_and_the_first_of_two() {
        let users = Users::parse(
            "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/bash\n",
        );
        assert_eq!(users.name(0).map(Text::as_str), Some("root"));
        assert_eq!(users.name(1000).map(Text::as_str), Some("ada"));
        assert_eq!(users.name(1), None);
        assert_eq!((users.number("ada"), users.number("root"), users.number("eve")), (Some(1000), Some(0), None));
    }

    #[test]
    fn synthetic_lines_are_passed_over() {
        let users = Users::parse("\n:\n::\nname\n:x:5:\nbad:x:many:0\n+@nis::::\nlate:x:7:7\n");
        assert_eq!((users.name(5), users.name(7).map(Text::as_str)), (None, Some("late")));
    }
}
