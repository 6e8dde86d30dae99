package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
	var table strings.Builder
	require.NoError(t, write(&table, strings.NewReader(`goos: linux
cpu: A processor
BenchmarkIntake/SQLite-FULL/managers=5/callers=16-2 	 1	 6193 floor-leads/s	 1.000 lead-spread	 25845 leads/s	 4.17 ratio	 0.25 ratio-spread
BenchmarkReads/PostgreSQL/conversion-of-one/leads=2000000-2	1	60.0 floor-p50-µs	90.0 p50-µs	1.5 ratio	0.02 ratio-spread
BenchmarkHTTP/PostgreSQL/GET-me/connections=16-2	1	80.5 p50-µs	200.1 p99-µs	12000 requests/s	600 requests/s-spread
BenchmarkHTTP/PostgreSQL/GET-healthz/connections=16-2	1	40 p50-µs	90 p99-µs	24000 requests/s	720 requests/s-spread
PASS
`), ", PostgreSQL 15"))
	require.Contains(t, table.String(), "A processor, ")
	require.Contains(t, table.String(), ", PostgreSQL 15.\n\n")
	_, rows, _ := strings.Cut(table.String(), "|---|---|--:|--:|--:|--:|--:|--:|---|\n")
	require.Equal(t, `| SQLite FULL | 5 managers, 16 callers | 25,845/s |  | 6,193/s | 4.17 | 0.25 | ≥ 4 |  |
| PostgreSQL | conversion of one, 2,000,000 leads | 90 µs |  | 60 µs | 1.50 | 0.02 | ≤ 1.3 | missed |
| PostgreSQL | GET me, 16 connections | 12,000/s | 80 / 200 | 24,000/s | 0.50 | 5 % | ≥ 10,000/s |  |
| PostgreSQL | GET healthz, 16 connections | 24,000/s | 40 / 90 | 24,000/s | 1.00 | 3 % |  |  |
`, rows)
}
