import type { CollectImagesReply, ImageStoreReply } from '@roost/api'
import { PlatformError } from '@roost/base'
import { bytesOf, type Collection, type DiskSpace, diskState } from '@roost/core'
import type { Deps } from '../deps.ts'
import type { ImageKeeper, ImageSurvey } from '../registry/image-keeper.ts'
import type { Handlers } from './handler.ts'

export function imageStoreHandlers({
  imageKeeper,
}: Pick<Deps, 'imageKeeper'>): Pick<Handlers, 'imageStore' | 'collectImages'> {
  const keeper = (): ImageKeeper => {
    if (imageKeeper !== null) return imageKeeper
    throw new PlatformError(
      'unsupported',
      'the images of this installation do not lie beside its server: collect them where they are',
    )
  }
  return {
    imageStore: async () => surveyReply(await keeper().survey(), keeper().lastCollection()),
    collectImages: async ({ body }) => {
      if (body.dry_run) {
        const { collection, space } = await keeper().survey()
        return collectionReply(collection, { dryRun: true, bytes: bytesOf(collection), space })
      }
      const { collection, freedBytes } = await keeper().collect(true)
      return collectionReply(collection, {
        dryRun: false,
        bytes: freedBytes,
        space: keeper().space(),
      })
    },
  }
}

export function fileSystemReply(space: DiskSpace): ImageStoreReply['file_system'] {
  return {
    path: space.path,
    bytes: space.bytes,
    free_bytes: space.freeBytes,
    inodes: space.inodes,
    free_inodes: space.freeInodes,
    state: diskState(space),
  }
}

function surveyReply(
  { stored, needed, space, collection }: ImageSurvey,
  last: ReturnType<ImageKeeper['lastCollection']>,
): ImageStoreReply {
  const uploads = stored.repositories.flatMap((repository) => repository.uploads)
  const uploadBytes = uploads.reduce((sum, { bytes }) => sum + bytes, 0)
  const blobBytes = [...stored.blobs.values()].reduce((sum, bytes) => sum + bytes, 0)
  return {
    file_system: fileSystemReply(space),
    bytes: blobBytes + uploadBytes,
    repositories: stored.repositories.map(({ name, manifests, layers }) => {
      const digests = new Set([...manifests, ...layers].map(({ digest }) => digest))
      const newest = Math.max(0, ...manifests.map(({ pushedAt }) => pushedAt))
      return {
        name,
        images: manifests.length,
        needed: manifests.filter(({ digest }) => needed.has(`${name}@${digest}`)).length,
        bytes: [...digests].reduce((sum, digest) => sum + (stored.blobs.get(digest) ?? 0), 0),
        newest_at: newest === 0 ? null : new Date(newest).toISOString(),
      }
    }),
    uploads: { count: uploads.length, bytes: uploadBytes },
    collectable: { images: collection.manifests.length, bytes: bytesOf(collection) },
    last_collection:
      last === null
        ? null
        : {
            at: new Date(last.at).toISOString(),
            freed_bytes: last.freedBytes,
            images: last.collection.manifests.length,
          },
  }
}

function collectionReply(
  { manifests, repositories, uploads, passedOver }: Collection,
  done: { readonly dryRun: boolean; readonly bytes: number; readonly space: DiskSpace },
): CollectImagesReply {
  return {
    dry_run: done.dryRun,
    bytes: done.bytes,
    images: manifests.map(({ repository, digest, tags, why }) => ({
      repository,
      digest,
      tags: [...tags],
      why,
    })),
    repositories: [...repositories],
    uploads: uploads.length,
    passed_over: passedOver.map(({ repository, why }) => ({ repository, why })),
    file_system: fileSystemReply(done.space),
  }
}
