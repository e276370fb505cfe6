import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startTrialServer, type TrialServer, trialTerminal } from '../session/trial-server.ts'

const ID = '3d8d9014b51080'
let folder = ''
let server: TrialServer
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
  const machine = {
    ...{ id: ID, name: 'n', state: 'started', region: 'ams', host: 'ams-1', host_status: 'ok' },
    ...{ instance_id: 'v2', version: 'v2', private_ip: '', cordoned: false, reason: null },
    ...{ created_at: '', updated_at: '', checks: [], events: [], nonce: '' },
    image_ref: { registry: 'r', repository: 'shop', tag: '', digest: 'sha256:1', labels: {} },
    config: {
      image: 'shop:1',
      env: { A: '1' },
      guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
      metadata: { fly_process_group: 'app' },
      init: {},
    },
  }
  const value = () => ({ value: machine })
  const ok = () => ({ value: { ok: true } })
  server = await startTrialServer({
    createMachine: value,
    getMachine: value,
    updateMachine: value,
    waitMachine: ok,
    signalMachine: ok,
    setMetadata: () => ({ value: null }),
    deleteMetadata: () => ({ value: null }),
    getMetadata: () => ({ value: { role: 'leader' } }),
  })
})
afterEach(async () => {
  await server.close()
  rmSync(folder, { recursive: true, force: true })
})

const run = (...argv: string[]) =>
  trialTerminal({
    cwd: folder,
    env: { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token', ROOST_APP: 'shop' },
  }).run(...argv)

test('machine run makes a machine as it was told, and waits for it', async () => {
  const { code, err } = await run(
    ...['machine', 'run', 'debian:12', '-r', 'ams', '-e', 'A=b=c', '--vm-size', 'shared-cpu-2x'],
    ...['--vm-memory', '1gb', '-p', '8080', '--', 'sleep', '60'],
  )
  expect({ code, err }).toEqual({ code: 0, err: '' })
  expect(server.of('createMachine')[0]?.body).toEqual({
    region: 'ams',
    skip_launch: false,
    config: {
      image: 'debian:12',
      env: { A: 'b=c' },
      init: { cmd: ['sleep', '60'] },
      guest: { cpu_kind: 'shared', cpus: 2, memory_mb: 1024 },
      services: [
        {
          protocol: 'tcp',
          internal_port: 8080,
          ports: [
            { port: 80, handlers: ['http'] },
            { port: 443, handlers: ['tls', 'http'] },
          ],
        },
      ],
    },
  })
  expect(server.of('waitMachine')[0]?.query).toMatchObject({ state: 'started' })
  await run('machine', 'create', 'debian:12')
  expect(server.of('createMachine')[1]?.body).toMatchObject({ skip_launch: true })
  expect(server.of('waitMachine')).toHaveLength(1)
})

test('clone and update change what is named, and leave the rest', async () => {
  await run('machine', 'clone', ID, '--region', 'iad', '-e', 'B=2')
  expect(server.of('createMachine')[0]?.body).toMatchObject({
    region: 'iad',
    config: { image: 'shop:1', env: { A: '1', B: '2' } },
  })
  await run('machine', 'update', ID, '--vm-memory', '512mb', '-C', "sh -c 'a b'")
  expect(server.of('updateMachine')[0]?.body).toMatchObject({
    config: { guest: { cpus: 1, memory_mb: 512 }, init: { cmd: ['sh', '-c', 'a b'] } },
  })
  expect(server.of('waitMachine').at(-1)?.query).toMatchObject({ state: 'started', version: 'v2' })
  expect((await run('machine', 'update', ID)).err).toContain('nothing was said that would change')
})

test('kill, wait and metadata', async () => {
  expect((await run('machine', 'kill', ID, '-s', 'hup')).out).toBe(`${ID} got SIGHUP\n`)
  expect(server.of('signalMachine')[0]?.body).toEqual({ signal: 'SIGHUP' })
  expect((await run('machine', 'wait', ID, '--state', 'stopped', '--json')).out).toContain(
    '"state": "stopped"',
  )
  expect((await run('machine', 'wait', ID, '--state', 'well')).err).toContain("can't be waited for")
  const metadata = await run('machine', 'metadata', ID, '--set', 'role=leader', '--unset', 'old')
  expect(metadata.out).toBe('NAME  VALUE\nrole  leader\n')
  expect(server.of('setMetadata')[0]).toMatchObject({ body: { value: 'leader' } })
})

test.each([
  [['run', 'x', '-e', 'A'], '--env looks like NAME=VALUE'],
  [['run', 'x', '--vm-size', 'big'], '"big" is no size'],
  [['run', 'x', '-p', '0'], '"0" is no port'],
  [['run', 'x', '--restart', 'maybe'], '"maybe" is no restart policy'],
])('machine %j is refused', async (argv, text) => {
  const { code, err } = await run('machine', ...argv)
  expect(code).toBe(2)
  expect(err).toContain(text)
  expect(server.calls).toEqual([])
})
