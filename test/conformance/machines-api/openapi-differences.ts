import { expect } from 'vitest'
import { ownOperations } from './own-openapi.ts'
import { differ, type Row, type Section } from './row.ts'

const LEASE = '/v1/apps/{app}/machines/{id}/lease'
const OWN = ownOperations()
const WRAPPED = 'lies in `data`, where clients look for it'
const NO_VOLUMES = 'there are no volumes that outlive a machine yet: 501'

/**
 * Where our OpenAPI document says something else than the one that Fly has published (`superfly/fly-openapi-sdk`, commit
 * f0c59fb, 34 operations), found by comparing paths, parameters, bodies, replies and statuses of success, each flattened.
 */
const DIFFERENCES: readonly {
  readonly at: string
  readonly what: 'operation' | 'reply' | 'status'
  readonly name?: string
  readonly reason: string
}[] = [
  ...['GET', 'POST'].flatMap((method) =>
    ['description', 'expires_at', 'nonce', 'owner', 'version'].map((name) => ({
      at: `${method} ${LEASE}`,
      what: 'reply' as const,
      name,
      reason: WRAPPED,
    })),
  ),
  {
    at: `POST ${LEASE}`,
    what: 'status',
    name: '200',
    reason: '201, as the documentation has it; clients take any status up to 299',
  },
  ...[
    'GET /v1/apps/{app}/volumes',
    'POST /v1/apps/{app}/volumes',
    'GET /v1/apps/{app}/volumes/{volume_id}',
    'POST /v1/apps/{app}/volumes/{volume_id}',
    'DELETE /v1/apps/{app}/volumes/{volume_id}',
    'PUT /v1/apps/{app}/volumes/{volume_id}/extend',
    'GET /v1/apps/{app}/volumes/{volume_id}/snapshots',
    'POST /v1/apps/{app}/volumes/{volume_id}/snapshots',
  ].map((at) => ({ at, what: 'operation' as const, reason: NO_VOLUMES })),
]

function rowOf({ at, what, name = '', reason }: (typeof DIFFERENCES)[number]): Row {
  return differ(`\`${at}\`: ${what}${name === '' ? '' : ` \`${name}\``}`, reason, () => {
    const own = OWN.get(at)
    if (what === 'operation') return expect(own).toBeUndefined()
    expect(own).toBeDefined()
    expect([...((what === 'reply' ? own?.reply : own?.statuses) ?? [])]).not.toContain(name)
  })
}

export const OPENAPI_SECTIONS: readonly Section[] = [
  { title: 'Against the OpenAPI document that Fly has published', rows: DIFFERENCES.map(rowOf) },
]
