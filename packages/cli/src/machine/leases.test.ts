import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  startTrialServer,
  type TrialAnswers,
  type TrialServer,
  trialTerminal,
} from '../session/trial-server.ts'

const [A, B] = ['3d8d9014b51080', '3d8d9014b51081']
let folder = ''
let server: TrialServer | null = null
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-leases-'))
})
afterEach(async () => {
  await server?.close()
  rmSync(folder, { recursive: true, force: true })
})

async function terminalOn(answers: TrialAnswers) {
  server = await startTrialServer(answers)
  const env = { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token' }
  return trialTerminal({ cwd: folder, env })
}

const data = {
  nonce: 'n1',
  expires_at: 4_000_000_000,
  owner: 'alice',
  description: 'deploying',
  version: '01J',
}
const none = { status: 404, code: 'not_found', error: 'machine lease not found' }
const getLease: TrialAnswers['getLease'] = ({ path }) =>
  path.includes(A) ? { value: { status: 'success', data } } : { refusal: none }

test('view tells who holds which machine until when', async () => {
  const terminal = await terminalOn({ getLease })
  const { code, out } = await terminal.run('machine', 'leases', 'view', A, B, '-a', 'shop')
  expect(code).toBe(0)
  expect(out).toMatch(/^MACHINE +HELD BY +UNTIL +WHY/)
  expect(out).toMatch(new RegExp(`${A} +alice +2096-10-02T07:06:40Z \\(\\d+ s\\) +deploying`))
  expect(out).toMatch(new RegExp(`${B} +- +- +-`))
  const { out: json } = await terminal.run('machine', 'leases', 'view', A, '-a', 'shop', '--json')
  expect(JSON.parse(json)).toEqual([{ id: A, lease: data }])
})

test('clear ends them with their nonces, and says so when there is none', async () => {
  const terminal = await terminalOn({
    getLease,
    releaseLease: () => ({ value: { status: 'success', data: { ok: true } } }),
  })
  expect(await terminal.run('machine', 'leases', 'clear', A, B, '-a', 'shop')).toMatchObject({
    code: 0,
    out: `The lease of alice on ${A} is ended\n`,
  })
  expect(server?.of('releaseLease').map((c) => c.headers['fly-machine-lease-nonce'])).toEqual([
    'n1',
  ])
  expect(await terminal.run('machine', 'leases', 'clear', B, '-a', 'shop')).toMatchObject({
    code: 0,
    out: 'Nobody holds a lease there.\n',
  })
})

test('who is refused for a lease is told how to see and end it', async () => {
  const error = 'machine lease currently held by alice, expires at 2026-01-01T00:00:00Z'
  const terminal = await terminalOn({
    cordonMachine: () => ({ refusal: { status: 409, code: 'conflict', error } }),
  })
  const { code, err } = await terminal.run('machine', 'cordon', A, '-a', 'shop')
  expect(code).toBe(1)
  expect(err).toContain(`Error: ${error}`)
  expect(err).toContain('roost machine leases clear ID')
})

test('cordon and uncordon say what they did', async () => {
  const ok = () => ({ value: { ok: true } })
  const terminal = await terminalOn({ cordonMachine: ok, uncordonMachine: ok })
  expect((await terminal.run('machine', 'cordon', A, B, '-a', 'shop')).out).toBe(
    `${A} is cordoned\n${B} is cordoned\n`,
  )
  const { out } = await terminal.run('machine', 'uncordon', A, '-a', 'shop', '--json')
  expect(JSON.parse(out)).toEqual([{ id: A, cordoned: false }])
})

test('restart waits until the new run is there', async () => {
  const ok = () => ({ value: { ok: true } })
  const terminal = await terminalOn({ restartMachine: ok, waitMachine: ok })
  const how = ['--signal', 'SIGTERM', '--time', '30', '--json']
  const { code, out } = await terminal.run('machine', 'restart', A, '-a', 'shop', ...how)
  expect([code, JSON.parse(out)]).toEqual([0, [{ id: A, state: 'started' }]])
  expect(server?.of('restartMachine')[0]?.query).toEqual({ signal: 'SIGTERM', timeout: '30s' })
  expect(server?.of('waitMachine')[0]?.query['state']).toBe('started')
  await terminal.run('machine', 'restart', A, '-a', 'shop', '--force-stop', '--no-wait')
  expect(server?.of('restartMachine')[1]?.query).toEqual({ force_stop: 'true' })
  expect(server?.of('waitMachine')).toHaveLength(1)
})
