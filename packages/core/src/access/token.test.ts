import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AppName, TokenId } from '../id.ts'
import { decide } from './decide.ts'
import type { Action, Policy } from './policy.ts'
import { ADMIN, deployRole, READ_ONLY } from './roles.ts'
import {
  isLive,
  lineOf,
  mintToken,
  revokeToken,
  TOKEN_KINDS,
  TOKEN_LIFE_DEFAULT_MS,
  type Token,
  tokenAndMade,
  tokensInSight,
} from './token.ts'

const shop = 'shop' as AppName
const blog = 'blog' as AppName
const ACTIONS: (Action | '*')[] = [
  ...deployRole(shop).actions,
  ...READ_ONLY.actions,
  'app:create',
  'app:destroy',
  'host:remove',
  'registry:collect',
  '*',
]

const policies: fc.Arbitrary<Policy> = fc.oneof(
  fc.constantFrom(ADMIN, deployRole(shop), READ_ONLY),
  fc.record(
    {
      actions: fc.subarray([...new Set(ACTIONS)]),
      apps: fc.subarray([shop, blog]),
      expiresAt: fc.integer({ min: 0, max: 2000 }),
    },
    { requiredKeys: ['actions'] },
  ),
)
const wishes = fc.record(
  {
    kind: fc.constantFrom(...TOKEN_KINDS),
    app: fc.constantFrom(null, shop, blog),
    lifeMs: fc.option(fc.integer({ min: 1, max: 2000 })),
  },
  { requiredKeys: ['kind', 'app'] },
)

describe('mintToken', () => {
  test('what is made allows nothing, at no time, that its maker does not', () => {
    fc.assert(
      fc.property(
        policies,
        wishes,
        fc.integer({ min: 0, max: 1000 }),
        fc.constantFrom(...ACTIONS.filter((action) => action !== '*')),
        fc.constantFrom(null, shop, blog),
        fc.integer({ min: 0, max: 4000 }),
        (maker, wish, now, action, app, later) => {
          const made = mintToken(maker, wish, now)
          if (made.kind === 'refused') return
          const request = { action: action as Action, app }
          if (decide(made.policy, request, later).kind === 'allowed')
            expect(decide(maker, request, later).kind).toBe('allowed')
        },
      ),
      { numRuns: 5000 },
    )
  })

  test('who may do everything for ever makes every kind', () => {
    fc.assert(
      fc.property(wishes, (wish) => {
        const wrong =
          (wish.kind === 'deploy' && wish.app === null) ||
          (wish.kind === 'admin' && wish.app !== null)
        expect(mintToken(ADMIN, wish, 0).kind).toBe(wrong ? 'refused' : 'minted')
      }),
    )
  })

  test('a deploy token makes tokens for its own app, for as long as it lives', () => {
    const maker = { ...deployRole(shop), expiresAt: 5000 }
    expect(mintToken(maker, { kind: 'readonly', app: shop }, 0)).toMatchObject({
      policy: { apps: [shop], expiresAt: 5000 },
    })
    expect(mintToken(maker, { kind: 'readonly', app: null, lifeMs: 1 }, 0)).toMatchObject({
      why: 'this token does not allow host:read itself',
    })
    expect(mintToken(maker, { kind: 'deploy', app: blog, lifeMs: 1 }, 0)).toMatchObject({
      why: 'this token is for shop, not for blog',
    })
    expect(mintToken(maker, { kind: 'deploy', app: shop, lifeMs: 5001 }, 0)).toMatchObject({
      why: 'this token ends at 1970-01-01T00:00:05.000Z, and what it makes ends no later',
    })
    expect(mintToken(maker, { kind: 'admin', app: null, lifeMs: 1 }, 0)).toMatchObject({
      why: 'this token does not allow everything, so it makes no administrator',
    })
  })

  test('what nobody gave a time lives ninety days, and for ever only when asked to', () => {
    expect(mintToken(ADMIN, { kind: 'readonly', app: null }, 7)).toMatchObject({
      policy: { expiresAt: 7 + TOKEN_LIFE_DEFAULT_MS },
    })
    const ever = mintToken(ADMIN, { kind: 'readonly', app: null, lifeMs: null }, 7)
    expect(ever.kind === 'minted' && ever.policy.expiresAt).toBeUndefined()
  })
})

function token(id: string, parent: string | null, change: Partial<Token> = {}): Token {
  return {
    id: id as TokenId,
    kind: 'admin',
    name: id,
    policy: ADMIN,
    parent: parent as TokenId | null,
    createdAt: 0,
    lastUsedAt: null,
    revokedAt: null,
    ...change,
  }
}
const ids = (tokens: readonly Token[]) => tokens.map(({ id }) => id).join('')

describe('revokeToken', () => {
  const a = token('a', null)
  const family = [a, token('b', 'a'), token('c', 'b'), token('d', null), token('e', 'd')]

  test('ends also what was made with it', () => {
    expect(revokeToken(family, 'b' as TokenId, { keepMade: false }, 0)).toEqual({
      kind: 'revoke',
      ids: ['b', 'c'],
    })
    expect(revokeToken(family, 'b' as TokenId, { keepMade: true }, 0)).toMatchObject({ ids: ['b'] })
  })

  test('leaves somebody who may do everything', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            parent: fc.nat(6),
            role: fc.constantFrom(ADMIN, READ_ONLY, { ...ADMIN, expiresAt: 10 }),
            revokedAt: fc.option(fc.constant(1), { freq: 4 }),
          }),
          { minLength: 1, maxLength: 6 },
        ),
        fc.nat(5),
        fc.boolean(),
        (rows, at, keepMade) => {
          const all = rows.map(({ parent, role, revokedAt }, n) =>
            token(String(n), parent < n ? String(parent) : null, { policy: role, revokedAt }),
          )
          const master = (one: Token) => one.policy === ADMIN && isLive(one, 5)
          const answer = revokeToken(all, String(at) as TokenId, { keepMade }, 5)
          if (answer.kind === 'refused' || !all.some(master)) return
          expect(all.some((one) => master(one) && !answer.ids.includes(one.id))).toBe(true)
        },
      ),
    )
    expect(revokeToken([a], 'a' as TokenId, { keepMade: false }, 0)).toMatchObject({
      why: 'it is the last administrator token that does not expire: make another one first',
    })
  })

  test('of two that were made with each other there is an end', () => {
    expect(ids(tokenAndMade([token('x', 'y'), token('y', 'x')], 'x' as TokenId))).toBe('xy')
  })

  test('its line begins with the first that is no administrator', () => {
    const deploy = (id: string, parent: string) => token(id, parent, { policy: deployRole(shop) })
    const all = [
      a,
      token('b', 'a'),
      deploy('c', 'b'),
      deploy('d', 'c'),
      deploy('e', 'd'),
      deploy('f', 'a'),
      deploy('g', 'gone'),
    ]
    const line = (id: string) => lineOf(all, id as TokenId)
    expect(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'gone'].map(line).join(' ')).toBe(
      'a b c c c f g gone',
    )
    expect(lineOf([deploy('x', 'y'), deploy('y', 'x')], 'x' as TokenId)).toBe('y')
  })

  test('who may not do everything sees the own and what was made with it', () => {
    expect(ids(tokensInSight(family, READ_ONLY, 'b' as TokenId))).toBe('bc')
    expect(ids(tokensInSight(family, ADMIN, 'b' as TokenId))).toBe('abcde')
    expect(tokensInSight(family, READ_ONLY, null)).toEqual([])
  })
})
