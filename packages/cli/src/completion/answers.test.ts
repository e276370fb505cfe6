import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startTrialServer, type TrialServer, trialTerminal } from '../session/trial-server.ts'
import { suggestionsFor } from './answers.ts'

let folder = ''
let server: TrialServer
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'roost-cli-'))
  const app = {
    ...{ id: 'shop', name: 'shop', status: 'deployed', machine_count: 1, volume_count: 0 },
    ...{ network: 'default', organization: { name: 'p', slug: 'personal' } },
  }
  const machine = {
    ...{ id: '3d8d9014b51080', state: 'started', region: 'ams', host: 'ams-1', image: 'i' },
    ...{ checks: [], private_ip: '', updated_at: '', reason: null },
  }
  server = await startTrialServer({
    listApps: () => ({ value: { total_apps: 1, apps: [app] } }),
    appStatus: () => ({
      value: { name: 'shop', hostname: 'h', release: null, machines: [machine] },
    }),
  })
})
afterEach(async () => {
  await server.close()
  rmSync(folder, { recursive: true, force: true })
})

async function words(...typed: string[]): Promise<string[]> {
  const env = { ROOST_API_URL: server.url, ROOST_API_TOKEN: 'token' }
  const { context } = trialTerminal({ cwd: folder, env })
  return (await suggestionsFor(typed, context, 60_000)).map(({ word }) => word)
}

test('commands, verbs and flags come from the command table', async () => {
  expect(await words('mach')).toEqual(['machine'])
  expect(await words('machine', 'st')).toEqual(['status', 'start', 'stop'])
  expect(await words('deploy', '--str')).toEqual(['--strategy'])
  expect(await words('machine', 'list', '--r')).toEqual(['--region'])
  expect(await words('tokens', 'create', 'd')).toEqual(['deploy'])
  expect(await words('nothing', 'at', 'all')).toEqual([])
  expect(await words('')).toContain('launch')
})

test('apps and machines come from the server', async () => {
  expect(await words('status', '-a', 's')).toEqual(['shop'])
  expect(await words('apps', 'destroy', '')).toEqual(['shop'])
  expect(await words('machine', 'stop', '-a', 'shop', '3')).toEqual(['3d8d9014b51080'])
  expect(server.of('appStatus')[0]?.path).toBe('/api/v1/apps/shop/status')
  // Which app is not said anywhere.
  expect(await words('machine', 'stop', '3')).toEqual([])
})

test('a server that is not there is not told of', async () => {
  await server.close()
  expect(await words('status', '-a', '')).toEqual([])
  expect(await words('machine', 'sto')).toEqual(['stop'])
})
