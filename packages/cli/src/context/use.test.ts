import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { saveContext } from '../session/contexts.ts'
import { startTrialServer, type TrialServer, trialTerminal } from '../session/trial-server.ts'

let folder = ''
let servers: TrialServer[] = []
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
  const answers = { listApps: () => ({ value: { total_apps: 0, apps: [] } }) }
  servers = [await startTrialServer(answers), await startTrialServer(answers)]
  for (const [n, name] of ['one', 'two'].entries())
    saveContext({ name, url: servers[n]?.url ?? '', token: `token-${name}`, ca: null }, env())
})
afterEach(async () => {
  for (const server of servers) await server.close()
  rmSync(folder, { recursive: true, force: true })
})

const env = () => ({ HOME: folder, XDG_CONFIG_HOME: `${folder}/.config` })
const terminal = (more: Record<string, string> = {}) => trialTerminal({ cwd: folder, env: more })
/** Which server heard it, and with which token. */
async function asked(run: Promise<{ code: number }>) {
  expect((await run).code).toBe(0)
  const heard = servers.findIndex((server) => server.calls.length > 0)
  const [call] = servers[heard]?.calls.splice(0) ?? []
  return [heard + 1, call?.headers.authorization]
}

test('the context in use is asked, until another one is', async () => {
  expect(await asked(terminal().run('apps', 'list'))).toEqual([2, 'Bearer token-two'])
  expect((await terminal().run('context', 'list')).out).toBe(
    `   NAME  SERVER\n   one   ${servers[0]?.url}\n*  two   ${servers[1]?.url}\n`,
  )
  expect((await terminal().run('context', 'use', 'one')).out).toContain('Now in use: one')
  expect(await asked(terminal().run('apps', 'list'))).toEqual([1, 'Bearer token-one'])
  expect((await terminal().run('context', 'show')).out).toContain(
    `${servers[0]?.url}, by the context one`,
  )
  expect((await terminal().run('context', 'remove', 'one')).out).toBe('Forgot one. In use: two.\n')
  expect(await asked(terminal().run('apps', 'list'))).toEqual([2, 'Bearer token-two'])
})

test('what is typed goes before the environment, and that before what is stored', async () => {
  const one = { ROOST_API_URL: servers[0]?.url ?? '', ROOST_API_TOKEN: 'other' }
  expect(await asked(terminal(one).run('apps', 'list'))).toEqual([1, 'Bearer other'])
  expect(await asked(terminal({ ROOST_CONTEXT: 'one' }).run('apps', 'list'))).toEqual([
    1,
    'Bearer token-one',
  ])
  for (const argv of [
    ['apps', 'list', '--context', 'two'],
    ['--context=two', 'apps', 'list'],
    ['apps', '--context', 'two', 'list'],
  ])
    expect(await asked(terminal(one).run(...argv))).toEqual([2, 'Bearer token-two'])
})

test('the token of another platform is never sent', async () => {
  const { code } = await terminal({
    FLY_API_TOKEN: 'fo1_secret',
    ROOST_API_URL: 'https://127.0.0.1:1',
  }).run('apps', 'list')
  expect(code).toBe(4)
})

test('one that is not there is named, with what was meant', async () => {
  for (const argv of [
    ['context', 'use', 'tow'],
    ['apps', 'list', '--context', 'tow'],
    ['context', 'remove', 'one', 'tow'],
  ]) {
    const { code, err } = await terminal().run(...argv)
    expect(code).toBe(2)
    expect(err).toContain('there is no context "tow": there is "two"')
  }
  expect((await terminal().run('apps', 'list', '--context')).err).toContain(
    '--context needs a name',
  )
  expect((await terminal().run('context', 'list', '--json')).out).toContain('"one"')
})
