//! Replies to customers from facts that the system message lists.

use super::tongue::Tongue;
use super::{Brief, Habits, Luck, sentences};

/// What is known of a customer's message.
struct Letter<'a> {
    company: &'a str,
    customer: Option<&'a str>,
    message: &'a str,
    facts: Vec<&'a str>,
    tongue: Tongue,
    is_brief: bool,
    is_formal: bool,
}

/// A reply, where the system message lists facts; `None` where it does not.
pub(super) fn reply(brief: &Brief<'_>, habits: &Habits, luck: Luck) -> Option<String> {
    let mut letter = Letter::read(brief)?;
    if habits.only_english {
        letter.tongue = Tongue::English;
    }
    let mut text = match luck.slip {
        // Each of these is what models do now and then.
        Some(which) if which % 3 == 0 => {
            return Some("I'm sorry, but I can't help with that.".into());
        }
        Some(which) if which % 3 == 1 => {
            letter.facts.clear();
            letter.message = "";
            letter.written()
        }
        Some(_) => {
            let written = letter.written();
            format!(
                "{written} As a gesture, we have added a voucher and a refund to your account, guaranteed."
            )
        }
        None => letter.written(),
    };
    if habits.is_wordy && letter.tongue == Tongue::English && !letter.is_brief {
        text.push_str(
            " We hope that this answers your question in full. If there is anything else that we can do for \
             you, please do not hesitate to write to us again at any time: our team is here for you every \
             day and is always glad to hear from you.",
        );
    }
    Some(text)
}

// === impl Letter ===

impl<'a> Letter<'a> {
    fn read(brief: &Brief<'a>) -> Option<Self> {
        let (_, listed) = brief.system.split_once("Facts:")?;
        let facts = listed.trim_start().lines().map_while(|line| line.trim().strip_prefix("- "));
        let facts: Vec<&str> = facts.filter(|fact| *fact != "(none)").collect();
        let message = brief.said.split_once("Message:").map_or(brief.said, |(_, message)| message);
        let message = message.trim();
        let customer = brief.said.lines().find_map(|line| line.strip_prefix("Customer:"));
        let company = brief.system.split_once("support team of ").map(|(_, rest)| rest);
        let company = company.and_then(|rest| rest.split(['.', ',', '\n']).next());
        let told = brief.system.split_once("Reply in this language:").map(|(_, rest)| rest);
        let told = told.and_then(|rest| Tongue::named(rest.lines().next().unwrap_or_default()));
        let wished = || message.split_once("answer in ").and_then(|(_, rest)| Tongue::named(rest));
        Some(Self {
            company: company.unwrap_or("our team").trim(),
            customer: customer.map(str::trim).filter(|name| !name.is_empty()),
            message,
            facts,
            tongue: told.or_else(wished).unwrap_or_else(|| Tongue::of(message)),
            is_brief: brief.system.contains("Be brief"),
            is_formal: brief.system.contains("Be formal"),
        })
    }

    fn written(&self) -> String {
        match self.tongue {
            Tongue::English => self.in_english(),
            Tongue::German => self.in_another(
                ("Guten Tag", "vielen Dank für Ihre Nachricht"),
                ("Dazu können wir sagen", "Wir prüfen Ihre Frage und melden uns bald"),
                "Freundliche Grüße",
            ),
            Tongue::French => self.in_another(
                ("Bonjour", "merci pour votre message"),
                ("Nous pouvons vous dire", "Nous vérifions votre question et revenons vers vous"),
                "Cordialement",
            ),
            Tongue::Japanese => self.in_another(
                ("こんにちは", "お問い合わせありがとうございます"),
                ("ご案内です", "確認してご連絡します"),
                "よろしくお願いします",
            ),
        }
    }

    fn in_english(&self) -> String {
        let greeting = match (self.customer, self.is_formal) {
            (Some(name), true) => format!("Dear {name},"),
            (Some(name), false) => format!("Hello {name},"),
            (None, _) => "Hello,".to_owned(),
        };
        let subject = subject(self.message);
        let about = subject.map(|subject| format!(" about {subject}")).unwrap_or_default();
        let is_upset =
            ["disappointed", "broke", "wrong", "useless", "blue", "late", "nothing here"]
                .iter()
                .any(|word| self.message.to_lowercase().contains(word));
        let opening = if is_upset {
            format!("we are sorry, and thank you for your message{about}.")
        } else {
            format!("thank you for your message{about}.")
        };
        let told = if self.facts.is_empty() {
            "We do not know the answer yet. We will check with a colleague and get back to you with what \
             happens next."
                .to_owned()
        } else {
            let most = if self.is_brief { 1 } else { usize::MAX };
            self.facts.iter().take(most).copied().collect::<Vec<_>>().join(" ")
        };
        match self.is_brief {
            true => format!("{greeting} {opening} {told}"),
            false => format!("{greeting}\n\n{opening} {told}\n\nKind regards,\n{}", self.company),
        }
    }

    /// In words that the dictionary has: greeting and thanks, what comes before the facts and what
    /// stands for them, and the end.
    fn in_another(
        &self,
        (hello, thanks): (&str, &str),
        (told, asked): (&str, &str),
        end: &str,
    ) -> String {
        let named: Vec<&str> = identifiers(self.message).collect();
        let about =
            if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        let facts: Vec<String> = self.facts.iter().map(|fact| self.tongue.gist(fact)).collect();
        let said = match facts.is_empty() {
            true => format!("{asked}."),
            false => format!("{told}: {}.", facts.join("; ")),
        };
        let text = format!("{hello}, {thanks}{about}. {said}\n\n{end},\n{}", self.company);
        match self.tongue {
            Tongue::Japanese => text.replace(", ", "、").replace(". ", "。").replace(".\n", "。\n"),
            Tongue::English | Tongue::German | Tongue::French => text,
        }
    }
}

/// What a message is about: the first thing that it names after `my`, `the` and the like.
fn subject(message: &str) -> Option<String> {
    const BEFORE: [&str; 5] = ["my", "our", "the", "your", "this"];
    const AFTER: [&str; 32] = [
        "is", "are", "was", "has", "have", "had", "says", "said", "broke", "does", "do", "and",
        "but", "or", "so", "that", "which", "who", "i", "we", "of", "in", "on", "at", "to", "for",
        "from", "with", "survive", "any", "not", "word",
    ];
    let first = sentences(message).into_iter().find(|sentence| {
        sentence.split_whitespace().any(|word| BEFORE.contains(&word.to_lowercase().as_str()))
    })?;
    let words: Vec<&str> = first.split_whitespace().collect();
    let at = words.iter().position(|word| BEFORE.contains(&word.to_lowercase().as_str()))?;
    let mut said: Vec<&str> = Vec::new();
    for word in words.iter().skip(at + 1).take(5) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if bare.is_empty() || AFTER.contains(&bare.to_lowercase().as_str()) {
            break;
        }
        said.push(bare);
        if word.ends_with([',', '.', '?', '!', ';', ':']) {
            break;
        }
    }
    let whose = if words.get(at).is_some_and(|word| word.eq_ignore_ascii_case("my")) {
        "your"
    } else {
        "the"
    };
    let mut subject = format!("{whose} {}", said.join(" "));
    for name in identifiers(message).filter(|name| !said.contains(name)) {
        subject = format!("{subject} ({name})");
    }
    (!said.is_empty()).then_some(subject)
}

/// Numbers of orders and the like: letters and digits in one word.
fn identifiers(message: &str) -> impl Iterator<Item = &str> {
    let words = message.split_whitespace();
    let words = words.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    words.filter(|word| {
        word.chars().any(|c| c.is_ascii_digit()) && word.chars().any(|c| c.is_ascii_uppercase())
    })
}
