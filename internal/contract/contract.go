// Package contract tests the promises of the routes over HTTP, on any router. It is
// not in test files, so that the module of the other routers can run it too.
package contract

import (
	"log/slog"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

// Host is a program that mounts the routes on its router.
type Host struct {
	// Serve makes a router and its API, has register mount the routes on the
	// API, below Prefix, and serves all over HTTP until the test ends. It
	// returns the URL of the server.
	Serve func(t *testing.T, register func(huma.API) error, logger *slog.Logger) (url string)

	// Prefix is the path below which the routes are, if any.
	Prefix string

	// SQLiteOnly leaves out the other database, where the router is in question.
	SQLiteOnly bool

	// Routers differ in the following; the tests expect exactly this.
	AnswersHead    bool // HEAD as GET without the body, else with 405
	AnswersOptions bool // with 204, else with 405
	MissesHangUps  bool // a request goes on although its client has gone
	JoinsTypes     bool // of two Content-Type headers only the last is left
	WaitsForBodies bool // nobody is answered before the body has come, or the server's time-out
	CutsLongBodies bool // a client that sends far too much may get a closed connection and no answer
	OnlyStandard   bool // a method that HTTP does not name gets a plain 501 before anything of ours is asked
	MaxHeaderBytes int  // of all headers, above it 431; 0: net/http's megabyte
}

// Run asks a host for everything that the contract promises.
func Run(t *testing.T, on Host) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(t, on) })
	}
}

var cases = []struct {
	name string
	test func(t *testing.T, on Host)
}{
	{"WhoIsUnknownLearnsNothing", testWhoIsUnknownLearnsNothing},
	{"WhoMayNotLearnsNothingOfTheBody", testWhoMayNotLearnsNothingOfTheBody},
	{"RightsAreReadForEachRequest", testRightsAreReadForEachRequest},
	{"EmailInAnotherCaseIsFound", testEmailInAnotherCaseIsFound},
	{"EmailOfAnotherIsNotFound", testEmailOfAnotherIsNotFound},
	{"BodyIsReadStrictly", testBodyIsReadStrictly},
	{"AnswerToAHostileBodyIsSmallAndQuick", testAnswerToAHostileBodyIsSmallAndQuick},
	{"BodyIsBounded", testBodyIsBounded},
	{"EndlessBodyIsCutOff", testEndlessBodyIsCutOff},
	{"BodyThatNeverArrivesIsNotWaitedFor", testBodyThatNeverArrivesIsNotWaitedFor},
	{"WhoIsTurnedAwayIsNotWaitedFor", testWhoIsTurnedAwayIsNotWaitedFor},
	{"RestOfABodyIsNotWaitedForWithoutEnd", testRestOfABodyIsNotWaitedForWithoutEnd},
	{"ContentTypeHasToBeJSON", testContentTypeHasToBeJSON},
	{"AcceptHasToLetJSONIn", testAcceptHasToLetJSONIn},
	{"QueryIsReadStrictly", testQueryIsReadStrictly},
	{"ProblemsSpeakTheClientsLanguage", testProblemsSpeakTheClientsLanguage},
	{"RequestIDIsTheClientsOwnIfHarmless", testRequestIDIsTheClientsOwnIfHarmless},
	{"RouterSpeaksInProblemsToo", testRouterSpeaksInProblemsToo},
	{"ForeignOriginsGetNothing", testForeignOriginsGetNothing},
	{"TextIsStoredAsTextAndAnsweredAsJSON", testTextIsStoredAsTextAndAnsweredAsJSON},

	{"EveryRouteForEveryRole", testEveryRouteForEveryRole},
	{"EveryBodyIsReadStrictly", testEveryBodyIsReadStrictly},
	{"EveryParameterIsReadStrictly", testEveryParameterIsReadStrictly},
	{"NoWayAroundTheRoutes", testNoWayAroundTheRoutes},
	{"EveryRouteRefusesInProblems", testEveryRouteRefusesInProblems},
	{"AnswersAreAsDocumented", testAnswersAreAsDocumented},

	{"StatusesComeInOrder", testStatusesComeInOrder},
	{"StatusLivesFromCreationToDeletion", testStatusLivesFromCreationToDeletion},
	{"NullClearsDescriptionAndColorOnly", testNullClearsDescriptionAndColorOnly},
	{"ChangeOfNothingIsRefused", testChangeOfNothingIsRefused},
	{"SameValuesAreNoChange", testSameValuesAreNoChange},
	{"StatusFieldsHaveBounds", testStatusFieldsHaveBounds},
	{"EscapesThatAreWholeCharactersAreTaken", testEscapesThatAreWholeCharactersAreTaken},
	{"NamesAreTakenInAnyCase", testNamesAreTakenInAnyCase},
	{"SystemStatusStays", testSystemStatusStays},
	{"StatusInUseIsDeletedOnlyByMoving", testStatusInUseIsDeletedOnlyByMoving},
	{"CountOfManyIsAMinimum", testCountOfManyIsAMinimum},

	{"RolesComeByDisplayName", testRolesComeByDisplayName},
	{"RoleLivesFromCreationToDeletion", testRoleLivesFromCreationToDeletion},
	{"RoleFieldsHaveBounds", testRoleFieldsHaveBounds},
	{"RoleInUseIsDeletedOnlyByMoving", testRoleInUseIsDeletedOnlyByMoving},

	{"RightsHangOnNoName", testRightsHangOnNoName},
	{"NobodyHandsOutWhatHeLacks", testNobodyHandsOutWhatHeLacks},
	{"TwoCEOsRemoveEachOther", testTwoCEOsRemoveEachOther},
	{"NothingIsAssignedAfterTheDeactivation", testNothingIsAssignedAfterTheDeactivation},

	{"UserIsCreatedAndChanged", testUserIsCreatedAndChanged},
	{"UserFieldsHaveBounds", testUserFieldsHaveBounds},
	{"UsersAreListedInPages", testUsersAreListedInPages},
	{"LastCEOStays", testLastCEOStays},
	{"LeavingManagersLeadsAreKeptOrRedistributed", testLeavingManagersLeadsAreKeptOrRedistributed},
	{"MeSaysWhoAndWhat", testMeSaysWhoAndWhat},

	{"NewCustomerIsAssignedAtOnce", testNewCustomerIsAssignedAtOnce},
	{"CustomerWaitsWhileNobodySells", testCustomerWaitsWhileNobodySells},
	{"CustomerFieldsHaveBounds", testCustomerFieldsHaveBounds},
	{"IdempotencyKeyMakesARepetitionHarmless", testIdempotencyKeyMakesARepetitionHarmless},
	{"CustomersAreFiltered", testCustomersAreFiltered},
	{"CustomersComeInPagesNewestFirst", testCustomersComeInPagesNewestFirst},
	{"StatusIsSetWithHistory", testStatusIsSetWithHistory},
	{"ManagersAreListedWeighedAndPaused", testManagersAreListedWeighedAndPaused},
	{"CustomerIsAssignedByHand", testCustomerIsAssignedByHand},
	{"BacklogIsAssignedOnCommand", testBacklogIsAssignedOnCommand},
	{"ConversionRateIsMeasured", testConversionRateIsMeasured},
	{"PeriodFollowsTheLanguage", testPeriodFollowsTheLanguage},
	{"OwnPermissionReachesOwnLeadsOnly", testOwnPermissionReachesOwnLeadsOnly},

	{"AuditSaysWhoDidWhat", testAuditSaysWhoDidWhat},
	{"AuditIsFiltered", testAuditIsFiltered},

	{"Import", testImport},
	{"ImportNamesTheBadLine", testImportNamesTheBadLine},
	{"ImportRefusals", testImportRefusals},
	{"ASlowImportHoldsNothing", testASlowImportHoldsNothing},
	{"SilentImportIsNotWaitedFor", testSilentImportIsNotWaitedFor},
	{"StoringAFileMayTakeLongerThanSilence", testStoringAFileMayTakeLongerThanSilence},

	{"TroubleThatPassesIs503", testTroubleThatPassesIs503},
	{"RequestIsNotWaitedForWithoutEnd", testRequestIsNotWaitedForWithoutEnd},
	{"TheUnexpectedIs500ThatSaysNothing", testTheUnexpectedIs500ThatSaysNothing},
	{"SQLiteInTrouble", testSQLiteInTrouble},
	{"PostgreSQLInTrouble", testPostgreSQLInTrouble},
	{"PostgreSQLWithFewRights", testPostgreSQLWithFewRights},
	{"AuthenticatorsTroubleIs503AndItsRefusal401", testAuthenticatorsTroubleIs503AndItsRefusal401},
	{"AuthenticatorCanReadWhateverItLikes", testAuthenticatorCanReadWhateverItLikes},
	{"LoggedTextCanForgeNoLine", testLoggedTextCanForgeNoLine},

	{"HeadIsGetWithoutABody", testHeadIsGetWithoutABody},
	{"WhoHangsUpIsNotWorkedFor", testWhoHangsUpIsNotWorkedFor},
	{"ManyAtOnceAreKeptApart", testManyAtOnceAreKeptApart},
	{"ConnectionServesOnAfterEachAnswer", testConnectionServesOnAfterEachAnswer},
}
