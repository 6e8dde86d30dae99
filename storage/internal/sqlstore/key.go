package sqlstore

import (
	"context"
	"time"

	"github.com/cimskit/cims"
)

type keyRow struct {
	Fingerprint string
	Result      string
	CreatedAt   time.Time
}

// ClaimKey implements cims.Tx. The insert is the claim: it waits for another
// transaction that inserts the same key, and takes over a row that has expired.
func (q tx) ClaimKey(ctx context.Context, key cims.Key, expired time.Time) (*cims.Key, error) {
	claimed, err := q.exec(ctx, `INSERT INTO cims_idempotency (scope, key, fingerprint, result, created_at) VALUES (?, ?, ?, '', ?)
		ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint, result = '', created_at = excluded.created_at
		WHERE cims_idempotency.created_at < ?`, key.Scope, key.Key, key.Fingerprint, key.At, expired)
	if err != nil || claimed == 1 {
		return nil, err
	}
	kept, err := row[keyRow](ctx, q.queries, "SELECT fingerprint, result, created_at FROM cims_idempotency WHERE scope = ? AND key = ?", key.Scope, key.Key)
	if err != nil {
		return nil, err
	}
	if kept == nil { // deleted in between
		return q.ClaimKey(ctx, key, expired)
	}
	return &cims.Key{
		Scope: key.Scope, Key: key.Key, Fingerprint: kept.Fingerprint, Result: []byte(kept.Result), At: kept.CreatedAt.UTC(),
	}, nil
}

// SaveKey implements cims.Tx.
func (q tx) SaveKey(ctx context.Context, key cims.Key) error {
	_, err := q.exec(ctx, "UPDATE cims_idempotency SET result = ? WHERE scope = ? AND key = ?", string(key.Result), key.Scope, key.Key)
	return err
}

// ForgetKeys implements cims.Tx.
func (q tx) ForgetKeys(ctx context.Context, expired time.Time, limit int) (int, error) {
	return q.exec(ctx, `DELETE FROM cims_idempotency WHERE (scope, key) IN
		(SELECT scope, key FROM cims_idempotency WHERE created_at < ? LIMIT ?)`, expired, limit)
}
