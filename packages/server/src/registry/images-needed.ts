import {
  type ContainerDigests,
  containerImages,
  groupsOf,
  imageRepository,
  type MachineConfig,
  versionsKept,
} from '@roost/core'
import { listApps } from '../store/apps.ts'
import { listMachines } from '../store/machines.ts'
import { listReleases } from '../store/releases.ts'
import type { Reader } from '../store/store.ts'

export interface ImagesNeeded {
  /** `shop@sha256:…`: repository and digest. */
  readonly needed: ReadonlySet<string>
  readonly apps: ReadonlySet<string>
}

const RELEASES_MAX = 1_000

/** `shop@sha256:…` for every image that a machine runs, that a release at work brings or that a release can return to. */
export async function imagesNeeded(reader: Reader, registryName: string): Promise<ImagesNeeded> {
  const needed = new Set<string>()
  const add = (image: string, digest: string) =>
    needed.add(`${repositoryIn(image, registryName)}@${digest}`)
  const addAll = (
    image: string,
    imageDigest: string,
    config: MachineConfig,
    digests: ContainerDigests | undefined,
  ) => {
    add(image, imageDigest)
    for (const one of containerImages(config, digests)) add(one.image, one.digest)
  }
  for (const { assignment } of await listMachines(reader, {}))
    addAll(
      assignment.config.image,
      assignment.imageDigest,
      assignment.config,
      assignment.containerDigests,
    )
  const apps = await listApps(reader)
  for (const app of apps) {
    const releases = await listReleases(reader, app.name, RELEASES_MAX)
    const kept = versionsKept(releases, app.release)
    for (const release of releases) {
      if (!kept.has(release.version)) continue
      for (const { config, containerDigests } of groupsOf(release).values())
        addAll(release.image, release.imageDigest, config, containerDigests)
    }
  }
  return { needed, apps: new Set(apps.map(({ name }) => name)) }
}

/** Where the image store has it: own images by their name, those of other registries as mirrored. */
export function repositoryIn(image: string, registryName: string): string {
  const full = imageRepository(image)
  return full.startsWith(`${registryName}/`) ? full.slice(registryName.length + 1) : full
}
