package sqlstore

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cimskit/cims/rotation"
)

// FormatLedger writes the credits of all members as one value: a JSON array of
// [id, credit, last turn, present weight] for each.
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

// parseLedger puts the credits that FormatLedger has written into the members. A
// member without a row of its own is new: a credit under its id was another's.
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
