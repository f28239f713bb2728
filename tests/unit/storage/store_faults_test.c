/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "unit/storage/meddle.h"
#include "unit/storage/store_contract.h"

/* A disk that fails: pwrite, writev and fdatasync are replaced in this program, so the store's
 * commits fail at a chosen call. Whatever fails, a commit that said so is undone, one that said 0
 * is there, and the store works again as soon as the disk does. */

enum fault_mode { FAULT_NONE, FAULT_REFUSED, FAULT_AFTER_WRITE, FAULT_META };

/* The replaced calls have no context, so this one is global. */
static struct {
    enum fault_mode mode;
    int code;
    int from;  /* the first call that fails, from 1 */
    int count; /* how many fail */
    int calls;
    char log[64]; /* what went through: n(umber), m(eta), p(ages), s(ync) */
} fault;

static void fault_arm(enum fault_mode mode, int code, int from, int count)
{
    fault.mode = mode;
    fault.code = code;
    fault.from = from;
    fault.count = count;
    fault.calls = 0;
    memset(fault.log, 0, sizeof(fault.log));
}

static void fault_log(char what)
{
    size_t used = strlen(fault.log);
    if (used < sizeof(fault.log) - 1)
        fault.log[used] = what;
}

static bool fault_hits(void)
{
    fault.calls++;
    return fault.mode != FAULT_NONE && fault.calls >= fault.from &&
           fault.calls - fault.from < fault.count;
}

/* META: the first one fails behind the write, and what should repair it does not write. */
static bool writes_anyway(void)
{
    return fault.mode == FAULT_AFTER_WRITE ||
           (fault.mode == FAULT_META && fault.calls == fault.from);
}

/* META counts the writes of meta pages only; they are smaller than a page. */
static bool is_counted(size_t bytes)
{
    return fault.mode != FAULT_META || bytes < 512;
}

ssize_t pwrite(int file, const void *data, size_t bytes, off_t offset)
{
    bool hit = is_counted(bytes) && fault_hits();
    ssize_t result = -1;
    if (!hit || writes_anyway())
        result = syscall(SYS_pwrite64, file, data, bytes, offset);
    fault_log(bytes == 8 ? 'n' : bytes < 512 ? 'm' : 'p');
    if (!hit)
        return result;
    errno = fault.code;
    return -1;
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    bool hit = is_counted(SIZE_MAX) && fault_hits();
    ssize_t result = -1;
    if (!hit || writes_anyway())
        result = syscall(SYS_writev, file, parts, count);
    fault_log('p');
    if (!hit)
        return result;
    errno = fault.code;
    return -1;
}

int fdatasync(int file)
{
    if (!is_counted(SIZE_MAX) || !fault_hits()) {
        fault_log('s');
        return (int)syscall(SYS_fdatasync, file);
    }
    errno = fault.code;
    return -1;
}

static int setup(void **state)
{
    static const struct contract contract = {.open = store_open_lmdb, .keeps = true};
    fault_arm(FAULT_NONE, 0, 1, 0);
    return contract_setup(state, &contract);
}

static int login_try(struct store *store, const char *user, uint64_t epoch, uint64_t *seq)
{
    struct session_record record = contract_record(epoch);
    struct presence_event event = contract_event(user, epoch);
    int result = store_begin(store);
    if (result != 0)
        return result;
    assert_int_equal(store_put_session(store, user, &record), 0);
    assert_int_equal(store_append_event(store, &event), 0);
    *seq = event.seq;
    return store_commit(store, epoch);
}

static int calls_of_a_commit(struct store *store)
{
    uint64_t seq;
    fault_arm(FAULT_NONE, 0, 1, 0);
    assert_int_equal(login_try(store, "anna", 1, &seq), 0);
    assert_int_equal(seq, 1);
    assert_true(fault.calls >= 3); /* pages, sync, meta page */
    return fault.calls;
}

/* Each call of a commit fails once, then the disk is sound again. */
static void each_call_fails_once(void **state)
{
    struct fixture *fixture = *state;
    static const int codes[] = {EIO, ENOSPC};
    static const enum fault_mode modes[] = {FAULT_REFUSED, FAULT_AFTER_WRITE};
    int calls = calls_of_a_commit(fixture->store);
    uint64_t epoch = 1;
    for (int i = 0; i < 4 * calls; i++) {
        int code = codes[i % 2];
        uint64_t seq = 0;
        fault_arm(modes[i / 2 % 2], code, i / 4 + 1, 1);
        assert_int_equal(login_try(fixture->store, "lost", 1000, &seq), -code);
        fault_arm(FAULT_NONE, 0, 1, 0);
        epoch++;
        assert_int_equal(login_try(fixture->store, "anna", epoch, &seq), 0);
        assert_int_equal(seq, epoch);
        contract_assert_list(fixture->store, "", "", 9, "anna", false);
    }
    contract_reopen(fixture);
    contract_assert_list(fixture->store, "", "", 9, "anna", false);
    uint64_t first = epoch > CONTRACT_KEPT ? epoch + 1 - CONTRACT_KEPT : 1;
    contract_assert_position(fixture->store, epoch, first, epoch, 1);
}

/* No room has several names, and each keeps its own. */
static void each_kind_of_no_room_is_told_apart(void **state)
{
    struct fixture *fixture = *state;
    static const int codes[] = {ENOSPC, EDQUOT, EFBIG};
    (void)calls_of_a_commit(fixture->store);
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        uint64_t seq;
        fault_arm(FAULT_REFUSED, codes[i], 1, INT32_MAX);
        assert_int_equal(login_try(fixture->store, "lost", 1000, &seq), -codes[i]);
        assert_true(store_is_full(-codes[i]));
        assert_int_equal(store_probe(fixture->folder), -codes[i]);
        fault_arm(FAULT_NONE, 0, 1, 0);
        assert_int_equal(store_probe(fixture->folder), 0);
    }
    assert_true(store_is_full(-EXFULL));
    assert_false(store_is_full(-EIO));
    assert_false(store_is_full(0));
}

/* The disk stays bad for a while: never a success, reads go on or say so. */
static void a_long_failure_recovers(void **state)
{
    struct fixture *fixture = *state;
    static const int codes[] = {EIO, ENOSPC};
    (void)calls_of_a_commit(fixture->store);
    for (int i = 0; i < 2; i++) {
        fault_arm(FAULT_REFUSED, codes[i], 1, INT32_MAX);
        for (int again = 0; again < 5; again++) {
            struct session_record record;
            uint64_t seq;
            assert_int_equal(login_try(fixture->store, "lost", 1000, &seq), -codes[i]);
            int result = store_get_session(fixture->store, "anna", &record);
            assert_true(result == 0 || result == -EIO);
            assert_true(store_get_session(fixture->store, "lost", &record) < 0);
        }
        fault_arm(FAULT_NONE, 0, 1, 0);
        uint64_t seq;
        assert_int_equal(login_try(fixture->store, "anna", 2, &seq), 0);
        assert_int_equal(seq, 2 + i);
    }
    contract_assert_position(fixture->store, 2, 1, 3, 1);
}

/* The write of the meta page said that it failed, yet it is there: the file contradicts the
 * answer. It is taken back before anything else is written. */
static void a_contradiction_is_taken_back(void **state)
{
    struct fixture *fixture = *state;
    static const int codes[] = {EIO, ENOSPC};
    uint64_t seq = 0;
    (void)calls_of_a_commit(fixture->store);
    for (uint64_t i = 0; i < 4; i++) {
        fault_arm(FAULT_META, codes[i % 2], 1, 2);
        assert_int_equal(login_try(fixture->store, "bob", 2, &seq), -codes[i % 2]);
        assert_int_equal(fault.calls, 2); /* the second is what LMDB writes to repair it */
        fault_arm(FAULT_NONE, 0, 1, 0);
        assert_int_equal(login_try(fixture->store, "carl", 3, &seq), 0);
        assert_int_equal(seq, 2 + i);
        /* The number and its sync before all else; opening syncs once more, then the commit. */
        assert_memory_equal(fault.log, "nssp", 4);
        contract_assert_list(fixture->store, "", "", 9, "anna carl", false);
        contract_reopen(fixture);
        contract_assert_list(fixture->store, "", "", 9, "anna carl", false);
        contract_assert_position(fixture->store, 3, 1, 2 + i, 2);
    }
}

/* The same, but the process ends before: the start finds it, whole. */
static void a_contradiction_may_outlive_the_process(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seq = 0;
    (void)calls_of_a_commit(fixture->store);
    fault_arm(FAULT_META, EIO, 1, 2);
    assert_int_equal(login_try(fixture->store, "bob", 2, &seq), -EIO);
    fault_arm(FAULT_NONE, 0, 1, 0);
    contract_reopen(fixture);
    contract_assert_list(fixture->store, "", "", 9, "anna bob", false);
    assert_int_equal(login_try(fixture->store, "carl", 3, &seq), 0);
    assert_int_equal(seq, 3);
}

/* Taking it back fails too, at each call: nothing is written until it is done. */
static void a_failed_undo_is_tried_again(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seq = 0;
    (void)calls_of_a_commit(fixture->store);
    fault_arm(FAULT_META, EIO, 1, 2);
    assert_int_equal(login_try(fixture->store, "bob", 2, &seq), -EIO);
    for (int from = 1; from <= 3; from++) { /* number, its sync, the sync of opening */
        struct session_record record;
        fault_arm(FAULT_REFUSED, EIO, from, INT32_MAX);
        assert_int_equal(store_begin(fixture->store), -EIO);
        assert_int_equal(fault.calls, from);
        assert_int_equal(store_get_session(fixture->store, "bob", &record), -EIO);
    }
    fault_arm(FAULT_NONE, 0, 1, 0);
    assert_int_equal(login_try(fixture->store, "carl", 3, &seq), 0);
    assert_int_equal(seq, 2);
    contract_assert_list(fixture->store, "", "", 9, "anna carl", false);
}

/* After a failed sync the writer opens the file anew, and that never makes a new, empty one. */
static void a_failed_sync_reopens_the_file(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    char aside[128];
    uint64_t seq = 0;
    struct session_record record;
    (void)snprintf(path, sizeof(path), "%s/data.mdb", fixture->folder);
    (void)snprintf(aside, sizeof(aside), "%s/aside", fixture->folder);
    int calls = calls_of_a_commit(fixture->store);
    fault_arm(FAULT_REFUSED, EIO, calls - 1, 1); /* the sync, before the meta page */
    assert_int_equal(login_try(fixture->store, "bob", 2, &seq), -EIO);
    fault_arm(FAULT_NONE, 0, 1, 0);
    assert_int_equal(rename(path, aside), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(login_try(fixture->store, "bob", 2, &seq), -ESTALE);
        assert_int_equal(store_get_session(fixture->store, "anna", &record), 0);
        assert_int_equal(store_get_session(fixture->store, "bob", &record), -ENOENT);
        assert_int_equal(access(path, F_OK), -1);
    }
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(login_try(fixture->store, "bob", 2, &seq), 0);
    assert_int_equal(seq, 2);
    contract_assert_list(fixture->store, "", "", 9, "anna bob", false);
}

/* One inbox with small and large messages in a transaction of its own. */
static int save_try(struct store *store, uint64_t epoch)
{
    struct saved_inbox inbox = contract_inbox(epoch);
    int result = store_begin(store);
    if (result != 0)
        return result;
    assert_int_equal(store_drop_inboxes(store), 0);
    assert_int_equal(store_put_inbox(store, "anna", &inbox), 0);
    for (uint64_t seq = 1; seq <= 6; seq++)
        assert_int_equal(contract_put_message(store, "anna", seq, seq % 2 ? 50 : 20000), 0);
    return store_commit(store, 0);
}

static void assert_saved(struct store *store, uint64_t epoch)
{
    contract_assert_inbox(
        store, "anna", epoch,
        (const size_t[][2]){{1, 50}, {2, 20000}, {3, 50}, {4, 20000}, {5, 50}, {6, 20000}, {0}});
}

/* Saving inboxes fails at each call, once or for long: the inboxes of before are still there,
 * whole, and the next save goes through. */
static void saving_fails_at_each_call(void **state)
{
    struct fixture *fixture = *state;
    static const int codes[] = {EIO, ENOSPC};
    static const enum fault_mode modes[] = {FAULT_REFUSED, FAULT_AFTER_WRITE};
    uint64_t epoch = 1;
    int injected = 0;
    assert_int_equal(save_try(fixture->store, epoch), 0);
    for (int which = 0; which < 8; which++) {
        bool hit = true;
        for (int from = 1; hit; from++) {
            int code = codes[which % 2];
            fault_arm(modes[which / 2 % 2], code, from, which < 4 ? 1 : INT32_MAX);
            int result = save_try(fixture->store, epoch + 1);
            hit = fault.calls >= from;
            fault_arm(FAULT_NONE, 0, 1, 0);
            injected += hit;
            assert_int_equal(result, hit ? -code : 0);
            epoch += !hit;
            if (hit)
                assert_int_equal(store_begin(fixture->store), 0);
            store_abort(fixture->store);
            assert_saved(fixture->store, epoch);
        }
        contract_reopen(fixture);
        assert_saved(fixture->store, epoch);
    }
    print_message("%d faults\n", injected);
    assert_true(injected > 8 * 3);
}

static int try_open(struct fixture *fixture)
{
    fixture->store = NULL;
    return store_open_lmdb(&fixture->store, &fixture->options, fixture->error);
}

/* An upgrade is cut short at each call, by an error or for good: the next opening finds the one
 * version or the other, whole. */
static void an_upgrade_fails_at_each_call(void **state)
{
    struct fixture *fixture = *state;
    (void)contract_login(fixture->store, "anna", 1);
    int injected = 0;
    for (int which = 0; which < 4; which++) {
        bool hit = true;
        for (int from = 1; hit; from++) {
            store_close(fixture->store);
            meddle_to_version_1(fixture->folder);
            fault_arm(which % 2 == 0 ? FAULT_REFUSED : FAULT_AFTER_WRITE, EIO, from,
                      which < 2 ? 1 : INT32_MAX);
            int result = try_open(fixture);
            hit = fault.calls >= from;
            injected += hit;
            fault_arm(FAULT_NONE, 0, 1, 0);
            assert_int_equal(result, hit ? -EIO : 0);
            if (hit) {
                assert_null(fixture->store);
                assert_int_equal(try_open(fixture), 0);
            }
            contract_assert_list(fixture->store, "", "", 9, "anna", false);
            contract_assert_no_inbox(fixture->store, "anna");
        }
    }
    assert_true(injected >= 4 * 4); /* the sync of opening, pages, sync, meta page */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(each_call_fails_once, setup),
        CONTRACT_TEST(each_kind_of_no_room_is_told_apart, setup),
        CONTRACT_TEST(a_long_failure_recovers, setup),
        CONTRACT_TEST(a_contradiction_is_taken_back, setup),
        CONTRACT_TEST(a_contradiction_may_outlive_the_process, setup),
        CONTRACT_TEST(a_failed_undo_is_tried_again, setup),
        CONTRACT_TEST(a_failed_sync_reopens_the_file, setup),
        CONTRACT_TEST(saving_fails_at_each_call, setup),
        CONTRACT_TEST(an_upgrade_fails_at_each_call, setup),
    };
    return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
