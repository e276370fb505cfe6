import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { COMMANDS } from './command-table.ts'
import { JSON_SHAPES } from './json-shapes.ts'
import { saveContext } from './session/contexts.ts'
import { startTrialServer, type TrialServer, trialTerminal } from './session/trial-server.ts'

const ID = '3d8d9014b51080'
const AT = '2026-01-01T00:00:00.000Z'
const machine = {
  ...{ id: ID, name: 'n', state: 'started', region: 'ams', host: 'ams-1', host_status: 'ok' },
  ...{ instance_id: 'v2', version: 'v2', private_ip: 'fdaa::1', cordoned: false, reason: null },
  ...{ created_at: AT, updated_at: AT, events: [] },
  checks: [{ name: 'c', status: 'passing', output: '', updated_at: AT }],
  image_ref: { registry: 'r', repository: 'shop', tag: '', digest: 'sha256:1', labels: {} },
  config: { image: 'shop:1', guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 }, metadata: {} },
}
const release = {
  ...{ app: 'shop', version: 1, status: 'complete', cause: 'scale', image: 'i', reason: null },
  ...{ created_at: AT, updated_at: AT, created_by: 'me', plan: [] },
}
const token = {
  ...{ id: 'b0b0b0b0b0b0', kind: 'deploy', name: 'ci', apps: ['shop'], state: 'active' },
  ...{ created_at: AT, created_by: null, parent: null, expires_at: null },
  ...{ last_used_at: null, revoked_at: null },
}
const shown = {
  ...{ id: ID, state: 'started', region: 'ams', host: 'ams-1', image: 'i', checks: [] },
  ...{ private_ip: '', updated_at: AT, reason: null },
}

let folder = ''
let server: TrialServer
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
  const value = (one: unknown) => () => ({ value: one })
  server = await startTrialServer({
    listApps: value({
      total_apps: 1,
      apps: [
        {
          ...{ id: 'shop', name: 'shop', status: 'deployed', machine_count: 1, volume_count: 0 },
          ...{ network: 'default', organization: { name: 'p', slug: 'personal' } },
        },
      ],
    }),
    appStatus: value({ name: 'shop', hostname: 'shop.test', release, machines: [shown] }),
    listMachines: value([machine]),
    getMachine: value(machine),
    createMachine: value(machine),
    updateMachine: value(machine),
    deleteMachine: value({ ok: true }),
    startMachine: value({ previous_state: 'stopped' }),
    stopMachine: value({ ok: true }),
    waitMachine: value({ ok: true }),
    signalMachine: value({ ok: true }),
    getMetadata: value({ a: 'b' }),
    setScale: value(release),
    listSecrets: value([{ name: 'A', digest: 'd', created_at: AT, updated_at: AT }]),
    listTokens: value([token]),
    createToken: value({ ...token, token: 'roost_x' }),
    revokeToken: value({ revoked: [token] }),
    whoami: value({
      ...{ name: 'me', actions: ['*'], apps: null, expires_at: null },
      ...{ version: '0.1.0', domain: 'roost.test' },
    }),
    doctor: value({ checked_at: AT, version: '0.1.0', findings: [], usage: [], hosts: [] }),
  })
  const env = { HOME: folder, XDG_CONFIG_HOME: `${folder}/.config` }
  saveContext({ name: 'here', url: server.url, token: 't', ca: null }, env)
})
afterAll(async () => {
  await server.close()
  rmSync(folder, { recursive: true, force: true })
})

const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  'machine status': [ID],
  'machine start': [ID],
  'machine stop': [ID],
  'machine wait': [ID],
  'machine destroy': [ID, '--yes'],
  'machine run': ['debian:12'],
  'machine create': ['debian:12'],
  'machine clone': [ID],
  'machine update': [ID, '-e', 'A=1'],
  'machine kill': [ID],
  'machine metadata': [ID],
  'scale count': ['ams=1'],
  'tokens create': ['deploy'],
  'tokens revoke': ['ci'],
  completion: ['bash'],
}

test.each(Object.keys(JSON_SHAPES))('roost %s --json', async (words) => {
  const terminal = trialTerminal({ cwd: folder, env: { ROOST_APP: 'shop' } })
  const argv = [...words.split(' '), ...(ARGUMENTS[words] ?? []), '--json']
  const { code, out, err } = await terminal.run(...argv)
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' })
  expect(JSON_SHAPES[words]?.safeParse(JSON.parse(out)).error).toBeUndefined()
})

test('every shape is that of a command', () => {
  const known = COMMANDS.flatMap(({ commands }) =>
    commands.map(({ words }) => words.filter((word) => word !== undefined).join(' ')),
  )
  expect(Object.keys(JSON_SHAPES).filter((words) => !known.includes(words))).toEqual([])
})
