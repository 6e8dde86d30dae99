package main

import (
	"os"
	"testing"
)

// TestMain runs the program in a temporary folder, to keep its file out of the repository.
func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "cims-hosttx")
	if err == nil {
		err = os.Chdir(folder)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(folder) // a leftover in the temporary folder does no harm
	os.Exit(code)
}

func Example_main() {
	main()
	main() // again, on the existing file
	// Output:
	// Bekzod Toshev goes to Aziza <nil>
	// refused: true
	// leads without an order: 0
	// Bekzod Toshev goes to Aziza <nil>
	// refused: true
	// leads without an order: 0
}
