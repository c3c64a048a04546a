"""Tables of the ledger file; money is int64 minor units, times are microseconds since 1970."""

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS budgets(
  campaign TEXT, name TEXT, total INTEGER NOT NULL,
  confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed >= 0),
  reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  PRIMARY KEY (campaign, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS campaigns(
  campaign TEXT PRIMARY KEY, is_paused INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions(
  decision_id TEXT PRIMARY KEY, campaign TEXT NOT NULL, user_key INTEGER,
  decided_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, state INTEGER NOT NULL,
  amounts BLOB NOT NULL, body BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS decisions_user ON decisions(user_key, campaign, decided_us)
  WHERE user_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS decisions_open ON decisions(expires_us) WHERE state = 1;
CREATE INDEX IF NOT EXISTS decisions_unfunded ON decisions(campaign) WHERE state = 4;
CREATE TABLE IF NOT EXISTS answers(
  key BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, decision_id TEXT NOT NULL,
  made_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_decision ON answers(decision_id);
CREATE INDEX IF NOT EXISTS answers_made ON answers(made_us);
CREATE TABLE IF NOT EXISTS feedback(
  event_key BLOB PRIMARY KEY, decision_id TEXT NOT NULL, type TEXT NOT NULL,
  value INTEGER NOT NULL, occurred_us INTEGER NOT NULL, received_us INTEGER NOT NULL,
  is_pending INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS feedback_decision ON feedback(decision_id);
CREATE INDEX IF NOT EXISTS feedback_pending ON feedback(received_us) WHERE is_pending = 1;
CREATE TABLE IF NOT EXISTS counters(
  campaign TEXT, name TEXT, n INTEGER NOT NULL, total INTEGER NOT NULL,
  PRIMARY KEY (campaign, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased(user_key INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
