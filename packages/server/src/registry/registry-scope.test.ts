import { expect, test } from 'vitest'
import { grantedAccess, parseScopes, type RegistryBearer } from './registry-scope.ts'

const shopOwner: RegistryBearer = {
  kind: 'token',
  may: (action, app) => app === 'shop' && action.startsWith('registry:'),
}
const administrator: RegistryBearer = { kind: 'token', may: () => true }
const reader: RegistryBearer = { kind: 'token', may: () => false }
const granted: RegistryBearer = {
  kind: 'granted',
  access: [{ repository: 'shop', actions: ['pull', 'push'] }],
}

test.each([
  ['repository:shop:pull,push', [{ repository: 'shop', actions: ['pull', 'push'] }]],
  ['repository:shop:*', [{ repository: 'shop', actions: ['pull', 'push', 'delete'] }]],
  [
    'repository:a:pull repository:docker.io/library/node:pull',
    [
      { repository: 'a', actions: ['pull'] },
      { repository: 'docker.io/library/node', actions: ['pull'] },
    ],
  ],
  ['registry:catalog:*', []],
  ['repository:../etc:pull', []],
  [undefined, []],
])('scope %s is read', (scope, expected) => {
  expect(parseScopes(scope)).toEqual(expected)
})

test.each([
  [shopOwner, 'repository:shop:pull,push', 'shop pull push'],
  [shopOwner, 'repository:other:pull', ''],
  [shopOwner, 'repository:docker.io/library/debian:pull', 'docker.io/library/debian pull'],
  [shopOwner, 'repository:docker.io/library/debian:pull,push', 'docker.io/library/debian pull'],
  [reader, 'repository:docker.io/library/debian:pull', 'docker.io/library/debian pull'],
  [reader, 'repository:shop:pull', ''],
  [administrator, 'repository:docker.io/library/debian:push', 'docker.io/library/debian push'],
  [granted, 'repository:shop:pull,push,delete', 'shop pull push'],
  [granted, 'repository:other:pull', ''],
  [granted, 'repository:docker.io/library/node:pull,push', 'docker.io/library/node pull'],
] as const)('what is granted follows the policy (%#)', (bearer, scope, expected) => {
  const access = grantedAccess(parseScopes(scope), bearer)
  expect(access.map((one) => [one.repository, ...one.actions].join(' ')).join('; ')).toBe(expected)
})
