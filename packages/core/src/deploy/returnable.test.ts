import { expect, test } from 'vitest'
import { versionsKept } from './returnable.ts'

test('kept are twenty that were complete, the one that serves, and those at work with what they would return to', () => {
  const releases = Array.from({ length: 60 }, (_, n) => ({
    version: n + 1,
    status: n % 2 === 0 ? ('complete' as const) : ('failed' as const),
  }))
  const open = { version: 61, status: 'starting' as const, returnTo: 7 }
  const kept = [...versionsKept([...releases, open], 3)].sort((a, b) => a - b)
  const twenty = Array.from({ length: 20 }, (_, n) => 21 + 2 * n)
  expect(kept).toEqual([3, 7, ...twenty, 61])
})
