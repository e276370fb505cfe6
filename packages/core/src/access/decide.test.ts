import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AppName } from '../id.ts'
import { decide, maySeeApp } from './decide.ts'
import type { Action, Policy } from './policy.ts'
import { ADMIN, deployRole, READ_ONLY } from './roles.ts'

const shop = 'shop' as AppName
const blog = 'blog' as AppName
const allowed = { kind: 'allowed' }

describe('decide', () => {
  test('an administrator may do everything', () => {
    expect(decide(ADMIN, { action: 'app:destroy', app: shop }, 0)).toEqual(allowed)
    expect(decide(ADMIN, { action: 'host:remove', app: null }, 0)).toEqual(allowed)
  })

  test('a deploy token does what its app needs, and nothing elsewhere', () => {
    const role = deployRole(shop)
    expect(decide(role, { action: 'release:create', app: shop }, 0)).toEqual(allowed)
    expect(decide(role, { action: 'release:create', app: blog }, 0)).toEqual({
      kind: 'denied',
      why: 'this token does not allow release:create for app blog',
    })
    expect(decide(role, { action: 'app:destroy', app: shop }, 0)).toEqual({
      kind: 'denied',
      why: 'this token does not allow app:destroy',
    })
    expect(decide(role, { action: 'region:read', app: null }, 0)).toEqual(allowed)
    expect(decide(role, { action: 'registry:push', app: null }, 0)).toEqual({
      kind: 'denied',
      why: 'this token is for single apps and does not allow registry:push',
    })
    expect([maySeeApp(role, shop), maySeeApp(role, blog)]).toEqual([true, false])
  })

  test('who only reads changes nothing', () => {
    expect(decide(READ_ONLY, { action: 'log:read', app: blog }, 0)).toEqual(allowed)
    expect(decide(READ_ONLY, { action: 'machine:stop', app: blog }, 0).kind).toBe('denied')
  })

  test('a policy ends at its hour', () => {
    const policy: Policy = { ...ADMIN, expiresAt: 1000 }
    expect(decide(policy, { action: 'app:read', app: null }, 999)).toEqual(allowed)
    expect(decide(policy, { action: 'app:read', app: null }, 1000)).toEqual({
      kind: 'denied',
      why: 'this token has expired',
    })
  })

  test('what a policy does not name is denied, whatever else it names', () => {
    const actions: Action[] = ['app:read', 'machine:stop', 'secret:set', 'host:remove', 'log:read']
    fc.assert(
      fc.property(
        fc.subarray(actions),
        fc.constantFrom(...actions),
        fc.option(fc.constantFrom(shop, blog)),
        (granted, action, app) => {
          const decision = decide({ actions: granted }, { action, app: app ?? null }, 0)
          return (decision.kind === 'allowed') === granted.includes(action)
        },
      ),
    )
  })
})
