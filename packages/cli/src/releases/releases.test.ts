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

let folder = ''
let server: TrialServer | null = null
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-releases-'))
})
afterEach(async () => {
  await server?.close()
  server = null
  rmSync(folder, { recursive: true, force: true })
})

const AT = '2026-01-01T00:00:00.000Z'
const release = (more: object = {}) => ({
  app: 'shop',
  version: 7,
  status: 'complete',
  cause: 'deploy',
  image: 'registry.internal/shop@sha256:7',
  strategy: 'rolling',
  serving: true,
  reason: null,
  created_at: AT,
  updated_at: AT,
  created_by: 'ana',
  plan: [{ kind: 'update', region: 'ams', host: 'ams-1', machine: 'm1', replaces: 'm1', wave: 0 }],
  ...more,
})
const planned = {
  release: release({ version: 8, status: 'pending', cause: 'rollback', rollback_of: 5 }),
  changes: {
    image: { from: 'registry.internal/shop@sha256:7', to: 'registry.internal/shop@sha256:5' },
    config: ['env.LOG_LEVEL', 'services'],
    secrets: [{ name: 'KEY', change: 'another value' }],
  },
}
const event = { at: AT, status: 'complete', message: 'release 8 is complete' }

async function terminalOn(answers: TrialAnswers) {
  server = await startTrialServer(answers)
  return trialTerminal({
    cwd: folder,
    env: { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token', ROOST_APP: 'shop' },
  })
}

const rolling: TrialAnswers = {
  createRollback: () => ({ value: planned }),
  followRelease: () => ({
    lines: async function* () {
      yield { ...event, machine: null, region: null }
    },
  }),
  getRelease: () => ({ value: release({ version: 8, cause: 'rollback', rollback_of: 5 }) }),
}

test('the list says which serves and what made each, images on request', async () => {
  const failed = release({
    version: 8,
    status: 'failed',
    serving: false,
    cause: 'rollback',
    rollback_of: 5,
    reason: 'machine m1 exited',
  })
  const terminal = await terminalOn({ listReleases: () => ({ value: [failed, release()] }) })
  const { out } = await terminal.run('releases')
  expect(out).toMatch(/v8 +failed +rollback to v5/)
  expect(out).toMatch(/v7 +serving +deploy/)
  expect(out).not.toContain('sha256:7')
  expect((await terminal.run('releases', '--image')).out).toContain('sha256:7')
})

test('one release shows what it does', async () => {
  const terminal = await terminalOn({ getRelease: () => ({ value: release() }) })
  const { out } = await terminal.run('releases', 'v7')
  expect(out).toContain('Release v7 of shop: serving')
  expect(out).toContain('machine m1 on ams-1 stops and starts anew: requests wait meanwhile')
  const wrong = await terminal.run('releases', 'seven')
  expect(wrong).toMatchObject({ code: 2, err: expect.stringContaining('"seven" is no version') })
})

test('followed with --json, each event is a line, and the release the last', async () => {
  const terminal = await terminalOn(rolling)
  const { out, code } = await terminal.run('releases', '8', '--follow', '--json')
  const lines = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(code).toBe(0)
  expect(lines).toMatchObject([{ message: 'release 8 is complete' }, { version: 8 }])
})

test('a rollback shows what changes, and asks before it does that', async () => {
  const terminal = await terminalOn(rolling)
  const asked = await terminal.run('rollback')
  expect(asked.code).toBe(2)
  expect(asked.out).toContain('Back to release v5 of shop')
  expect(asked.out).toContain('→ registry.internal/shop@sha256:5')
  expect(asked.out).toContain('env.LOG_LEVEL, services')
  expect(asked.out).toContain('KEY (another value)')
  expect(asked.err).toContain('Try: roost rollback 5 -a shop --yes')
  expect(server?.of('createRollback')).toHaveLength(1)
})

test('a rollback that is confirmed goes where the plan said', async () => {
  const terminal = await terminalOn(rolling)
  const { code, out } = await terminal.run('rollback', '--yes', '--strategy', 'immediate')
  expect(code).toBe(0)
  expect(out).toContain('Release v8 of shop is complete: it is release v5 again.')
  expect(server?.of('createRollback')[1]?.body).toMatchObject({ version: 5, strategy: 'immediate' })
})

test('a detached rollback is not followed', async () => {
  const terminal = await terminalOn(rolling)
  const { code, out } = await terminal.run('rollback', '5', '--yes', '--detach')
  expect(code).toBe(0)
  expect(out).toContain('Follow it: roost releases 8 --follow -a shop')
  expect(server?.of('followRelease')).toEqual([])
})

test('what keeps a rollback from being done is told', async () => {
  const terminal = await terminalOn({
    createRollback: () => ({
      refusal: {
        status: 409,
        code: 'conflict',
        error: 'release 5 of shop failed and never served',
      },
    }),
  })
  const { code, err } = await terminal.run('rollback', '5', '--yes')
  expect(code).toBe(1)
  expect(err).toContain('Error: release 5 of shop failed and never served')
})
