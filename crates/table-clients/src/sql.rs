//! What sqlite_table(5), pgsql_table(5), mysql_table(5) and ldap_table(5) have in common: which keys are asked for, and what the rows become.

use std::sync::Arc;

use mail_config::main_cf::kinds::{Context, Kind as _};
use mail_config::main_cf::lists::{Domains, MatchList};

use crate::RemoteAnswer;
use crate::settings::{Mistake, Settings};
use crate::template::Template;

/// The longest answer in octets, as for socketmap.
pub(crate) const ANSWER_MAX: usize = 100_000;

/// The values of one column after the other, row by row; none is NULL.
pub(crate) type Values = Vec<Option<String>>;

/// How a table asks and answers.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) query: Template,
    pub(crate) result: Template,
    /// Only keys in these domains are asked for.
    pub(crate) domains: Option<MatchList<String>>,
    /// The most results (`expansion_limit`); zero for any number.
    pub(crate) limit: u64,
}

/// A question to a server: the plan and the key. The query is made where the connection is known, on which its quoting depends.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) plan: Arc<Plan>,
    pub(crate) key: String,
}

impl Question {
    /// The query; none where the key lacks what it asks for.
    pub(crate) fn query(&self, quote: &dyn Fn(&str) -> String) -> Option<String> {
        self.plan.query.query(&self.key, quote)
    }
}

/// The parameters that [`Plan::sql`] reads.
pub(crate) const PARAMETERS: [&str; 9] = [
    "query",
    "select_function",
    "select_field",
    "table",
    "where_field",
    "additional_conditions",
    "result_format",
    "domain",
    "expansion_limit",
];

impl Plan {
    /// The plan of an SQL table.
    pub(crate) fn sql(settings: &Settings) -> Result<Self, Mistake> {
        let query = match (settings.get("query"), settings.get("select_function")) {
            (Some(query), _) => query.to_owned(),
            (None, Some(function)) => format!("SELECT {function}('%s')"),
            (None, None) => {
                let need = |name: &str| settings.get(name).ok_or("there is no query");
                let (field, table, key) = (need("select_field")?, need("table")?, need("where_field")?);
                format!("SELECT {field} FROM {table} WHERE {key} = '%s' {}", settings.text("additional_conditions", ""))
            }
        };
        Self::new(("query", &query), ("result_format", settings.text("result_format", "%s")), settings)
    }

    /// A plan of a query and the form of a result, each with the parameter that states it.
    pub(crate) fn new(query: (&str, &str), result: (&str, &str), settings: &Settings) -> Result<Self, Mistake> {
        let template = |(name, text): (&str, &str)| Template::parse(text).map_err(|what| Mistake::of(name, what));
        Ok(Self {
            query: template(query)?,
            result: template(result)?,
            domains: settings.get("domain").map(domains).transpose()?,
            limit: settings.number("expansion_limit", 0)?,
        })
    }

    /// Makes one answer of the values: each through the template, joined with commas.
    pub(crate) fn answer(&self, key: &str, values: &Values) -> RemoteAnswer {
        let mut out = String::new();
        let mut count = 0;
        for value in values.iter().flatten().filter_map(|value| self.result.result(key, value)) {
            count += 1;
            if self.limit > 0 && count > self.limit {
                return RemoteAnswer::Temporary(format!("more than {} results (expansion_limit)", self.limit));
            }
            out.push_str(if count > 1 { "," } else { "" });
            out.push_str(&value);
            if out.len() > ANSWER_MAX {
                return RemoteAnswer::Temporary(format!("the answer is longer than {ANSWER_MAX} octets"));
            }
        }
        if count == 0 { RemoteAnswer::NotFound } else { RemoteAnswer::Found(out) }
    }
}

fn domains(text: &str) -> Result<MatchList<String>, Mistake> {
    let mut context =
        Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
    Domains::parse(text, &mut context).map_err(|mistake| Mistake::of("domain", mistake.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        Plan::sql(&Settings::of_text(text)).expect("a plan")
    }

    fn values(values: &[Option<&str>]) -> Values {
        values.iter().map(|value| value.map(str::to_owned)).collect()
    }

    #[test]
    fn rows_are_joined_and_counted() {
        let rows = values(&[Some("a"), None, Some(""), Some("b")]);
        let found = |text: &str| RemoteAnswer::Found(text.to_owned());
        assert_eq!(plan("query = x\n").answer("k", &rows), found("a,b"));
        assert_eq!(plan("query = x\nresult_format = <%s>\nexpansion_limit = 2\n").answer("k", &rows), found("<a>,<b>"));
        let refused = plan("query = x\nexpansion_limit = 1\n").answer("k", &rows);
        assert!(matches!(refused, RemoteAnswer::Temporary(_)));
        assert_eq!(plan("query = x\n").answer("k", &values(&[None])), RemoteAnswer::NotFound);
    }

    #[test]
    fn the_older_parameters_make_a_query() {
        let quote = |text: &str| text.to_owned();
        let old = plan("select_field = a\ntable = t\nwhere_field = k\nadditional_conditions = AND x\n");
        assert_eq!(old.query.query("v", &quote).as_deref(), Some("SELECT a FROM t WHERE k = 'v' AND x"));
        assert_eq!(plan("select_function = f\n").query.query("v", &quote).as_deref(), Some("SELECT f('v')"));
        assert!(Plan::sql(&Settings::default()).is_err());
    }
}
