import { expect, test } from 'vitest'
import { deployRole } from '../access/roles.ts'
import type { Token } from '../access/token.ts'
import type { AppName, TokenId } from '../id.ts'
import { tokenFindings } from './token-findings.ts'

const DAY_MS = 86_400_000
const NOW = 100 * DAY_MS

const found = (expiresAt: number | null, change: Partial<Token> = {}) =>
  tokenFindings(
    [
      {
        id: 'b0b0b0b0b0b0' as TokenId,
        kind: 'deploy',
        name: 'ci',
        policy: { ...deployRole('shop' as AppName), ...(expiresAt === null ? {} : { expiresAt }) },
        parent: null,
        createdAt: 0,
        lastUsedAt: NOW - DAY_MS,
        revokedAt: null,
        ...change,
      },
    ],
    NOW,
  )

test('a token that is in use and ends soon is told, with what replaces it', () => {
  expect(found(NOW + 3 * DAY_MS)).toMatchObject([
    {
      about: 'token ci',
      fixes: [
        'roost tokens create deploy -a shop --name "ci"   # then: roost tokens revoke b0b0b0b0b0b0',
      ],
    },
  ])
})

test.each([
  [null, {}],
  [NOW + 30 * DAY_MS, {}],
  [NOW - 1, {}],
  [NOW + DAY_MS, { revokedAt: 1 }],
  [NOW + DAY_MS, { lastUsedAt: null }],
  [NOW + DAY_MS, { lastUsedAt: NOW - 20 * DAY_MS }],
])('one that ends at %s, with %o, is not', (expiresAt, change) => {
  expect(found(expiresAt, change)).toEqual([])
})
