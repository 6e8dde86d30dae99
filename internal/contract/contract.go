// Package contract tests the promises of the routes over HTTP, on any router. It is
// not in test files, so that the module of the other routers can run it too.
package contract

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

// Host is a program that mounts the routes on its router.
type Host struct {
	// Serve makes a router and its API, has register mount the routes on the
	// API, below Prefix, and serves all over HTTP until the test ends. It
	// returns the URL of the server.
	Serve func(t *testing.T, register func(huma.API) error, logger *slog.Logger) (url string)

	// Prefix is the path below which the routes are, if any.
	Prefix string

	// RouterOnly leaves out the second database, and the cases that one router
	// answers for all: httpapi's own test runs those.
	RouterOnly bool

	// Routers differ in the following; the tests expect exactly this.
	AnswersHead    bool // HEAD as GET without the body, else with 405
	AnswersOptions bool // with 204, else with 405
	MissesHangUps  bool // a request goes on although its client has gone
	JoinsTypes     bool // of two Content-Type headers only the last is left
	WaitsForBodies bool // nobody is answered before the body has come, or the server's time-out
	CutsLongBodies bool // a client that sends far too much may get a closed connection and no answer
	OnlyStandard   bool // a method that HTTP does not name gets a plain 501 before anything of ours is asked
	MaxHeaderBytes int  // of all headers, above it 431; 0: net/http's megabyte

	databases func() *pgtest.Template // on PostgreSQL, migrated
}

// Run asks a host for everything that the contract promises.
func Run(t *testing.T, on Host) {
	t.Helper()
	on.databases = sync.OnceValue(func() *pgtest.Template {
		return pgtest.NewTemplate(t, func(url string) {
			store, err := postgres.Open(t.Context(), url)
			require.NoError(t, err)
			require.NoError(t, store.Migrate(t.Context()))
			require.NoError(t, store.Close())
		})
	})
	for _, c := range cases {
		if on.RouterOnly && c.where == once {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.test(t, on) })
	}
}

// where a case runs.
type where int

const (
	onEachRouter where = iota // paths, methods, headers, bodies, limits, hang-ups
	once                      // rules and databases, whose requests differ in nothing that a router sees
)

var cases = []struct {
	name  string
	test  func(t *testing.T, on Host)
	where where
}{
	{"WhoIsUnknownLearnsNothing", testWhoIsUnknownLearnsNothing, onEachRouter},
	{"WhoMayNotLearnsNothingOfTheBody", testWhoMayNotLearnsNothingOfTheBody, onEachRouter},
	{"RightsAreReadForEachRequest", testRightsAreReadForEachRequest, once},
	{"RightsAreReadAgainAfterTheBody", testRightsAreReadAgainAfterTheBody, onEachRouter},
	{"EmailInAnotherCaseIsFound", testEmailInAnotherCaseIsFound, once},
	{"EmailOfAnotherIsNotFound", testEmailOfAnotherIsNotFound, once},
	{"BodyIsReadStrictly", testBodyIsReadStrictly, onEachRouter},
	{"AnswerToAHostileBodyIsSmallAndQuick", testAnswerToAHostileBodyIsSmallAndQuick, onEachRouter},
	{"BodyIsBounded", testBodyIsBounded, onEachRouter},
	{"EndlessBodyIsCutOff", testEndlessBodyIsCutOff, onEachRouter},
	{"BodyThatNeverArrivesIsNotWaitedFor", testBodyThatNeverArrivesIsNotWaitedFor, onEachRouter},
	{"WhoIsTurnedAwayIsNotWaitedFor", testWhoIsTurnedAwayIsNotWaitedFor, onEachRouter},
	{"RestOfABodyIsNotWaitedForWithoutEnd", testRestOfABodyIsNotWaitedForWithoutEnd, onEachRouter},
	{"ContentTypeHasToBeJSON", testContentTypeHasToBeJSON, onEachRouter},
	{"AcceptHasToLetJSONIn", testAcceptHasToLetJSONIn, onEachRouter},
	{"QueryIsReadStrictly", testQueryIsReadStrictly, onEachRouter},
	{"ProblemsSpeakTheClientsLanguage", testProblemsSpeakTheClientsLanguage, onEachRouter},
	{"RequestIDIsTheClientsOwnIfHarmless", testRequestIDIsTheClientsOwnIfHarmless, onEachRouter},
	{"RouterSpeaksInProblemsToo", testRouterSpeaksInProblemsToo, onEachRouter},
	{"ForeignOriginsGetNothing", testForeignOriginsGetNothing, onEachRouter},
	{"TextIsStoredAsTextAndAnsweredAsJSON", testTextIsStoredAsTextAndAnsweredAsJSON, onEachRouter},

	{"EveryRouteForEveryRole", testEveryRouteForEveryRole, once},
	{"EveryBodyIsReadStrictly", testEveryBodyIsReadStrictly, onEachRouter},
	{"EveryParameterIsReadStrictly", testEveryParameterIsReadStrictly, onEachRouter},
	{"NoWayAroundTheRoutes", testNoWayAroundTheRoutes, onEachRouter},
	{"EveryRouteRefusesInProblems", testEveryRouteRefusesInProblems, onEachRouter},
	{"AnswersAreAsDocumented", testAnswersAreAsDocumented, onEachRouter},

	{"StatusesComeInOrder", testStatusesComeInOrder, once},
	{"StatusLivesFromCreationToDeletion", testStatusLivesFromCreationToDeletion, onEachRouter},
	{"NullClearsDescriptionAndColorOnly", testNullClearsDescriptionAndColorOnly, once},
	{"ChangeOfNothingIsRefused", testChangeOfNothingIsRefused, once},
	{"SameValuesAreNoChange", testSameValuesAreNoChange, once},
	{"StatusFieldsHaveBounds", testStatusFieldsHaveBounds, once},
	{"EscapesThatAreWholeCharactersAreTaken", testEscapesThatAreWholeCharactersAreTaken, onEachRouter},
	{"NamesAreTakenInAnyCase", testNamesAreTakenInAnyCase, once},
	{"SystemStatusStays", testSystemStatusStays, once},
	{"StatusInUseIsDeletedOnlyByMoving", testStatusInUseIsDeletedOnlyByMoving, once},
	{"CountOfManyIsAMinimum", testCountOfManyIsAMinimum, once},

	{"RolesComeByDisplayName", testRolesComeByDisplayName, once},
	{"RoleLivesFromCreationToDeletion", testRoleLivesFromCreationToDeletion, once},
	{"RoleFieldsHaveBounds", testRoleFieldsHaveBounds, once},
	{"RoleInUseIsDeletedOnlyByMoving", testRoleInUseIsDeletedOnlyByMoving, once},

	{"RightsHangOnNoName", testRightsHangOnNoName, once},
	{"NobodyHandsOutWhatHeLacks", testNobodyHandsOutWhatHeLacks, once},
	{"TwoCEOsRemoveEachOther", testTwoCEOsRemoveEachOther, once},
	{"NothingIsAssignedAfterTheDeactivation", testNothingIsAssignedAfterTheDeactivation, once},

	{"UserIsCreatedAndChanged", testUserIsCreatedAndChanged, once},
	{"UserFieldsHaveBounds", testUserFieldsHaveBounds, once},
	{"UsersAreListedInPages", testUsersAreListedInPages, once},
	{"LastCEOStays", testLastCEOStays, once},
	{"LeavingManagersLeadsAreKeptOrRedistributed", testLeavingManagersLeadsAreKeptOrRedistributed, once},
	{"MeSaysWhoAndWhat", testMeSaysWhoAndWhat, once},

	{"NewCustomerIsAssignedAtOnce", testNewCustomerIsAssignedAtOnce, once},
	{"CustomerWaitsWhileNobodySells", testCustomerWaitsWhileNobodySells, once},
	{"CustomerFieldsHaveBounds", testCustomerFieldsHaveBounds, once},
	{"IdempotencyKeyMakesARepetitionHarmless", testIdempotencyKeyMakesARepetitionHarmless, onEachRouter},
	{"CustomersAreFiltered", testCustomersAreFiltered, onEachRouter},
	{"CustomersComeInPagesNewestFirst", testCustomersComeInPagesNewestFirst, once},
	{"StatusIsSetWithHistory", testStatusIsSetWithHistory, once},
	{"ManagersAreListedWeighedAndPaused", testManagersAreListedWeighedAndPaused, once},
	{"CustomerIsAssignedByHand", testCustomerIsAssignedByHand, once},
	{"BacklogIsAssignedOnCommand", testBacklogIsAssignedOnCommand, once},
	{"ConversionRateIsMeasured", testConversionRateIsMeasured, once},
	{"PeriodFollowsTheLanguage", testPeriodFollowsTheLanguage, once},
	{"OwnPermissionReachesOwnLeadsOnly", testOwnPermissionReachesOwnLeadsOnly, once},

	{"AuditSaysWhoDidWhat", testAuditSaysWhoDidWhat, once},
	{"AuditIsFiltered", testAuditIsFiltered, once},

	{"Import", testImport, onEachRouter},
	{"ImportNamesTheBadLine", testImportNamesTheBadLine, once},
	{"ImportRefusals", testImportRefusals, onEachRouter},
	{"ASlowImportHoldsNothing", testASlowImportHoldsNothing, onEachRouter},
	{"SilentImportIsNotWaitedFor", testSilentImportIsNotWaitedFor, onEachRouter},
	{"StoringAFileMayTakeLongerThanSilence", testStoringAFileMayTakeLongerThanSilence, onEachRouter},

	{"TroubleThatPassesIs503", testTroubleThatPassesIs503, once},
	{"RequestIsNotWaitedForWithoutEnd", testRequestIsNotWaitedForWithoutEnd, onEachRouter},
	{"TheUnexpectedIs500ThatSaysNothing", testTheUnexpectedIs500ThatSaysNothing, onEachRouter},
	{"SQLiteInTrouble", testSQLiteInTrouble, once},
	{"PostgreSQLInTrouble", testPostgreSQLInTrouble, once},
	{"PostgreSQLWithFewRights", testPostgreSQLWithFewRights, once},
	{"AuthenticatorsTroubleIs503AndItsRefusal401", testAuthenticatorsTroubleIs503AndItsRefusal401, once},
	{"RefusedTokensAreExplained", testRefusedTokensAreExplained, once},
	{"AuthenticatorCanReadWhateverItLikes", testAuthenticatorCanReadWhateverItLikes, onEachRouter},
	{"LoggedTextCanForgeNoLine", testLoggedTextCanForgeNoLine, onEachRouter},

	{"HeadIsGetWithoutABody", testHeadIsGetWithoutABody, onEachRouter},
	{"WhoHangsUpIsNotWorkedFor", testWhoHangsUpIsNotWorkedFor, onEachRouter},
	{"ManyAtOnceAreKeptApart", testManyAtOnceAreKeptApart, onEachRouter},
	{"ConnectionServesOnAfterEachAnswer", testConnectionServesOnAfterEachAnswer, onEachRouter},
}
