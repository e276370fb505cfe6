import { machineConfigInput } from '@roost/api'
import type { AppName } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTrialApi, type TrialApi } from '../http/trial-api.ts'
import { readConfig } from '../machine/config.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { resolveImages } from '../machine/resolve-images.ts'
import { listHosts } from '../store/hosts.ts'
import { imagesNeeded } from './images-needed.ts'

let api: TrialApi
beforeEach(async () => {
  api = await openTrialApi()
})
afterEach(() => api.close())

test('the image of each container is needed, and of each volume that is filled from one', async () => {
  const { deps } = api
  const input = {
    image: 'registry.internal/shop:v1',
    containers: [
      { name: 'app' },
      { name: 'cache', image: 'redis:7', mounts: [{ name: 'site', path: '/site' }] },
    ],
    volumes: [{ name: 'site', image: 'registry.internal/site:v1' }],
  }
  const resolved = await resolveImages(
    deps.images,
    readConfig(machineConfigInput.parse(input)),
    new AbortController().signal,
  )
  const { config, imageDigest, containerDigests } = resolved
  await deps.store.transaction(async (tx) => {
    const [host] = await listHosts(tx)
    if (host === undefined) throw new Error('no host')
    await insertNewMachine(
      tx,
      { ...deps, now: deps.clock.now() },
      {
        app: 'shop' as AppName,
        host,
        config,
        imageDigest,
        containerDigests,
        launch: true,
        source: 'user',
      },
    )
  })
  const { needed } = await deps.store.read((reader) => imagesNeeded(reader, 'registry.internal'))
  expect([...needed].sort()).toEqual(
    [
      `docker.io/library/redis@${containerDigests?.['cache']}`,
      `shop@${imageDigest}`,
      `site@${containerDigests?.['volume/site']}`,
    ].sort(),
  )
})
