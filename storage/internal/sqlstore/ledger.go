package sqlstore

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cimskit/cims/rotation"
)

// FormatLedger formats the credits of all members as a JSON array. Each member is an array
// [id, credit, last turn, present weight].
func FormatLedger(members []rotation.Member) string {
	text := []byte{'['}
	for i, m := range members {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(append(text, '['), m.ID, 10)
		for _, n := range [...]int64{m.Credit, m.LastTurn, int64(m.Present)} {
			text = strconv.AppendInt(append(text, ','), n, 10)
		}
		text = append(text, ']')
	}
	return string(append(text, ']'))
}

// parseLedger sets the members' credits from a text of FormatLedger. It skips a member
// without a row: that member is new, and a credit under its id belonged to another user.
func parseLedger(members []rotation.Member, hasRow []bool, ledger string) error {
	var entries [][4]int64
	if err := json.Unmarshal([]byte(ledger), &entries); err != nil {
		return fmt.Errorf("cims: the rotation's ledger can't be read: %w", err)
	}
	places := make(map[int64]int, len(members))
	for i, m := range members {
		if hasRow[i] {
			places[m.ID] = i
		}
	}
	for _, e := range entries {
		if i, found := places[e[0]]; found {
			members[i].Credit, members[i].LastTurn, members[i].Present = e[1], e[2], int(e[3])
		}
	}
	return nil
}
