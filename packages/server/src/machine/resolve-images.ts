import { PlatformError } from '@roost/base'
import type { ContainerDigests, MachineConfig } from '@roost/core'
import type { ImageResolver } from '../image-resolver.ts'

/** A configuration whose images are named as hosts pull them, with what each stood for when it was looked up. */
export interface ResolvedConfig {
  readonly config: MachineConfig
  readonly imageDigest: string
  /** Absent without containers. */
  readonly containerDigests?: ContainerDigests
}

/** Looks up every image of a configuration. Throws as `ImageResolver` does, with the key that names the image. */
export async function resolveImages(
  images: Pick<ImageResolver, 'resolve'>,
  config: MachineConfig,
  signal: AbortSignal,
): Promise<ResolvedConfig> {
  const own = await resolveAt(images, config.image, 'config.image', signal)
  if (config.containers === undefined)
    return { config: { ...config, image: own.image }, imageDigest: own.digest }

  const digests: Record<string, string> = {}
  const containers: NonNullable<MachineConfig['containers']>[number][] = []
  for (const [n, container] of config.containers.entries()) {
    const path = `config.containers[${n}].image`
    const { image, digest } =
      container.image === config.image
        ? own
        : await resolveAt(images, container.image, path, signal)
    digests[container.name] = digest
    containers.push({ ...container, image })
  }
  const volumes: NonNullable<MachineConfig['volumes']>[number][] = []
  for (const [n, volume] of (config.volumes ?? []).entries()) {
    if (volume.image === undefined) {
      volumes.push(volume)
      continue
    }
    const path = `config.volumes[${n}].image`
    const { image, digest } = await resolveAt(images, volume.image, path, signal)
    digests[`volume/${volume.name}`] = digest
    volumes.push({ ...volume, image })
  }
  return {
    config: {
      ...config,
      image: own.image,
      containers,
      ...(volumes.length === 0 ? {} : { volumes }),
    },
    imageDigest: own.digest,
    containerDigests: digests,
  }
}

async function resolveAt(
  images: Pick<ImageResolver, 'resolve'>,
  image: string,
  path: string,
  signal: AbortSignal,
): Promise<{ image: string; digest: string }> {
  try {
    return await images.resolve(image, signal)
  } catch (error) {
    if (!(error instanceof PlatformError) || error.code !== 'invalid') throw error
    throw new PlatformError('invalid', `${path}: ${error.message}`)
  }
}
