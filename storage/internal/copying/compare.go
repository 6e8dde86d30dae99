package copying

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// verifyAll compares both databases as they are now, and then releases the copy for use. It
// also detects writes during the copy.
func (c *job) verifyAll(ctx context.Context) error {
	err := c.from.store.Snapshot(ctx, func(source bun.IConn) error {
		return c.to.store.Snapshot(ctx, func(target bun.IConn) error {
			for _, t := range c.tables {
				if err := c.verify(ctx, source, target, t); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if errors.Is(err, ErrDiffers) {
		return c.fail(ctx, err)
	}
	if err != nil {
		return err
	}
	return c.update(ctx, c.state, func(tx sqlstore.Transaction) error {
		_, err := c.to.exec(ctx, sqlstore.SQL{IConn: tx}, "DROP TABLE "+checkpoints)
		return err
	})
}

// verify compares a table row by row, in the order of its key.
func (c *job) verify(ctx context.Context, source, target bun.IConn, t plan) error {
	from, err := t.read(ctx, c.from, source, nil)
	if err != nil {
		return err
	}
	defer from.close()
	to, err := t.read(ctx, c.to, target, nil)
	if err != nil {
		return err
	}
	defer to.close()
	digest, err := resume(nil)
	if err != nil {
		return err
	}
	difference := ""
	for done := int64(0); ; done++ {
		if done%blockRows == 0 {
			c.progress(Progress{Table: t.name, Verifying: true, Done: done, Total: c.totals[t.name]})
		}
		a, err := from.next()
		if err != nil {
			return err
		}
		if a != nil {
			digest.Write(a.encoded) // never fails
		}
		if difference != "" && a != nil {
			continue // only the source's digest is still needed
		}
		if difference != "" {
			break
		}
		b, err := to.next()
		if err != nil {
			return err
		}
		if a == nil && b == nil {
			c.progress(Progress{Table: t.name, Verifying: true, Done: done, Total: c.totals[t.name]})
			return nil
		}
		difference = t.difference(a, b)
		if a == nil {
			break
		}
	}
	copied, err := resume(c.state.Tables[t.name].Digest)
	if err != nil {
		return err
	}
	why := changed
	if !bytes.Equal(copied.Sum(nil), digest.Sum(nil)) {
		why = written
	}
	return fmt.Errorf("%w: table %q, %s: %s", ErrDiffers, t.name, difference, why)
}

// difference describes how two rows differ. It is empty if they are equal. A nil row means
// that its database has no more rows.
func (p *plan) difference(source, target *record) string {
	switch {
	case target == nil, source != nil && p.compareKeys(*source, *target) < 0:
		return p.keyOf(*source) + " is missing in the target"
	case source == nil, p.compareKeys(*source, *target) > 0:
		return p.keyOf(*target) + " is in the target only"
	case !bytes.Equal(source.encoded, target.encoded):
		return p.keyOf(*source) + " differs in " + p.differing(*source, *target)
	default:
		return ""
	}
}
