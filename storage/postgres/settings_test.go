package postgres_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

// database returns the URL of a new database, made with the options.
func database(t *testing.T, options string) string {
	t.Helper()
	base, name := pgtest.Need(t), "t_"+uuid.NewString()[:13]
	pgtest.Execute(t, base, fmt.Sprintf("CREATE DATABASE %q TEMPLATE template0 %s", name, options))
	t.Cleanup(func() { pgtest.Execute(t, base, fmt.Sprintf("DROP DATABASE %q WITH (FORCE)", name)) })
	parsed, err := url.Parse(base)
	require.NoError(t, err)
	parsed.Path = "/" + name
	return parsed.String()
}

// TestSettingsOfADatabase checks that Open sets what it relies on, that New refuses what it
// can't, and that a database that takes no writes is unavailable.
func TestSettingsOfADatabase(t *testing.T) {
	t.Parallel()
	ctx, target := t.Context(), database(t, "")
	alter := func(setting string) {
		pgtest.Execute(t, target, fmt.Sprintf("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s', current_database()); END $$", setting))
	}
	alter("DateStyle = German")
	_, err := postgres.New(host(t, target))
	require.ErrorContains(t, err, "DateStyle is German")
	alter("DateStyle = ISO")
	alter("client_encoding = LATIN1")
	_, err = postgres.New(host(t, target))
	require.ErrorContains(t, err, "client_encoding is LATIN1")
	alter("DateStyle = German")

	store := open(t, target)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(ctx)) }()
	lead, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Oʻktam Алишер"})
	require.NoError(t, err)
	found, err := crm.Customer(ctx, system, lead.ID)
	require.NoError(t, err)
	require.Equal(t, lead.FullName, found.FullName)
	require.True(t, lead.CreatedAt.Equal(found.CreatedAt))

	alter("default_transaction_read_only = on")
	second := open(t, target)
	defer func() { require.NoError(t, second.Close()) }()
	reading, err := cims.New(second, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, reading.Close(ctx)) }()
	_, err = reading.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Late"})
	require.ErrorIs(t, err, cims.ErrUnavailable)
	_, err = reading.CreateUser(ctx, system, cims.NewUser{Email: "a@example.com", Name: "A", Surname: "A", RoleName: cims.RoleSalesManager})
	require.ErrorIs(t, err, cims.ErrUnavailable)
}

func TestOtherEncodingsAreRefused(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"WIN1251", "SQL_ASCII"} {
		target := database(t, "ENCODING '"+encoding+"' LOCALE 'C'")
		_, err := postgres.Open(t.Context(), target)
		require.ErrorContains(t, err, "the encoding of the database is "+encoding+": it has to be UTF8")
		_, err = postgres.New(host(t, target))
		require.ErrorContains(t, err, "the encoding of the database is "+encoding)
	}
}
